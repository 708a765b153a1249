// The review page: one sound at a time, and everything by the keyboard.

const sounds = [...document.querySelectorAll("audio")];
const form = document.getElementById("vote");
const switched = document.getElementById("keys");
const REMEMBERED = "auriscope-review-keys";

/** Play a sound, or let it rest; the others rest. */
function toggle(sound) {
  if (!sound.paused) {
    sound.pause();
    return;
  }
  if (sound.ended) sound.currentTime = 0;
  sound.play();
}

/** Whether a key is meant for what is being typed into, not for us. */
function isTyping(target) {
  return target.matches("textarea, select, input[type=text], input[type=search]");
}

/** Do what stands behind a key; say whether there is anything. */
function act(key) {
  const sound = sounds.find((candidate) => candidate.dataset.key && candidate.dataset.key === key);
  if (sound) {
    toggle(sound);
    return true;
  }
  const control = [...document.querySelectorAll("input[data-key], button[data-key]")].find(
    (candidate) => candidate.dataset.key === key,
  );
  if (!control) return false;
  control.focus();
  control.click();
  return true;
}

for (const sound of sounds) {
  sound.addEventListener("play", () => {
    for (const other of sounds) if (other !== sound) other.pause();
  });
}

if (form) {
  switched.checked = localStorage.getItem(REMEMBERED) !== "off";
  switched.addEventListener("change", () => localStorage.setItem(REMEMBERED, switched.checked ? "on" : "off"));
  document.addEventListener("keydown", (event) => {
    if (!switched.checked || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    if (isTyping(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (act(event.key.toLowerCase())) event.preventDefault();
  });
}
