// A trial: every sound is heard, every voice is rated, and the ratings are sent until the server has them.

import { Player } from "./rate-player.js";

const ATTEMPTS = 4;
const form = document.getElementById("trial");
const status = document.getElementById("status");
const send = document.getElementById("send");
const sections = [...form.querySelectorAll(".sound")];
const rated = sections.filter((section) => section.classList.contains("rated"));
const mustHear = form.dataset.complete === "yes";
// What was done of this trial outlives a reload of the page.
const key = `auriscope.trial.${form.dataset.assignment}`;
const before = JSON.parse(sessionStorage.getItem(key) ?? "{}");
let visibleMilliseconds = before.milliseconds ?? 0;
let visibleSince = document.visibilityState === "visible" ? performance.now() : null;
let isDone = false;

const players = sections.map((section, place) => new Player(section, before.sounds?.[place], showHeard));
rated.forEach((section, place) => {
  const radio = section.querySelector(`input[value="${before.scores?.[place]}"]`);
  if (radio) radio.checked = true;
});

function milliseconds() {
  return visibleMilliseconds + (visibleSince === null ? 0 : performance.now() - visibleSince);
}

function scoreOf(section) {
  const checked = section.querySelector("input:checked");
  return checked ? Number(checked.value) : null;
}

function remember() {
  if (isDone) return;
  const sounds = players.map((player) => ({ stretches: player.stretches, plays: player.plays }));
  sessionStorage.setItem(key, JSON.stringify({ milliseconds: milliseconds(), scores: rated.map(scoreOf), sounds }));
}

function showHeard(player) {
  const section = player.element;
  const isRated = section.classList.contains("rated");
  section.classList.toggle("done", player.isHeard && (!isRated || scoreOf(section) !== null));
}

function nameOf(section) {
  return section.querySelector("h2").textContent;
}

function tell(text, isBad = false) {
  status.textContent = text;
  status.classList.toggle("bad", isBad);
}

/** Say what is still to be done, and go to the first of it; false if there is nothing. */
function isMissing() {
  const unheard = mustHear ? players.filter((player) => !player.isHeard).map((player) => player.element) : [];
  const unrated = rated.filter((section) => scoreOf(section) === null);
  if (!unheard.length && !unrated.length) return false;
  const lines = [];
  if (unheard.length) lines.push(status.dataset.missingHeard.replace("{names}", unheard.map(nameOf).join(", ")));
  if (unrated.length) lines.push(status.dataset.missingScore.replace("{names}", unrated.map(nameOf).join(", ")));
  tell(lines.join(" "), true);
  const first = sections.find((section) => unheard.includes(section) || unrated.includes(section));
  first.querySelector(unheard.includes(first) ? ".play" : "input").focus();
  return true;
}

async function post(body) {
  const headers = { "Content-Type": "application/json", "X-CSRF-Token": document.body.dataset.csrf };
  const address = `/api/trial/${form.dataset.assignment}/votes`;
  for (let attempt = 1; ; attempt += 1) {
    try {
      const answer = await fetch(address, { method: "POST", headers, body, credentials: "same-origin" });
      if (answer.status < 500 && answer.status !== 429) return answer;
      throw new Error(`${answer.status}`);
    } catch (error) {
      // The same votes may be sent twice: the server keeps them once.
      if (attempt === ATTEMPTS) throw error;
      await new Promise((resolve) => { setTimeout(resolve, 500 * 2 ** attempt); });
    }
  }
}

async function submit() {
  remember();
  send.disabled = true;
  tell(status.dataset.sending);
  const body = JSON.stringify({
    scores: rated.map(scoreOf),
    heard: players.map((player) => player.heard),
    plays: players.map((player) => player.plays),
    seconds_on_page: milliseconds() / 1000,
  });
  try {
    const answer = await post(body);
    if (answer.ok) {
      isDone = true;
      sessionStorage.removeItem(key);
      window.location.assign((await answer.json()).next);
      return;
    }
    const problem = (await answer.json()).error;
    if (problem === "listening") {
      tell(status.dataset.listening, true);
    } else if (answer.status === 409 || answer.status === 401) {
      // Rated in another window, or the session has ended: the server knows which page comes next.
      window.location.assign("/rate");
      return;
    } else {
      tell(status.dataset.failed, true);
    }
  } catch {
    tell(status.dataset.failed, true);
  }
  send.disabled = false;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!isMissing()) submit();
});

form.addEventListener("change", () => {
  players.forEach(showHeard);
  tell("");
  remember();
});

// Inside a sound, the keys 1 to 5 rate it.
for (const section of rated) {
  section.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || !/^[1-5]$/.test(event.key)) return;
    event.preventDefault();
    const radio = section.querySelector(`input[value="${event.key}"]`);
    radio.checked = true;
    radio.focus();
    radio.dispatchEvent(new Event("change", { bubbles: true }));
  });
}

document.addEventListener("visibilitychange", () => {
  visibleMilliseconds = milliseconds();
  visibleSince = document.visibilityState === "visible" ? performance.now() : null;
  remember();
});
window.addEventListener("pagehide", remember);
setInterval(remember, 1000);
