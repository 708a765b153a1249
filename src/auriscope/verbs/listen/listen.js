"use strict";
// Everything here is comfort: without it, the players of the page still play.
(() => {
  const sounds = [...document.querySelectorAll("audio[data-sound]")];
  const figures = [...document.querySelectorAll("[data-figure]")];
  const deck = document.getElementById("deck");
  const button = document.getElementById("deck-play");
  const seek = document.getElementById("deck-seek");
  const time = document.getElementById("deck-time");
  const choices = [...deck.querySelectorAll("input[name=hear]")];
  const duration = Number(seek.max);
  let current = sounds[0];
  if (!current || !(duration > 0)) return;

  const clock = (seconds) => {
    const whole = Math.floor(seconds);
    const two = (value) => String(value).padStart(2, "0");
    const minutes = Math.floor(whole / 60) % 60;
    const hours = Math.floor(whole / 3600);
    return (hours ? `${hours}:${two(minutes)}` : String(minutes)) + ":" + two(whole % 60);
  };

  // Where a figure's time runs: the picture inside it, without the labels at its left.
  const stage = (figure) => figure.querySelector(".spectrum img, .lane svg").getBoundingClientRect();

  const show = () => {
    const position = Math.min(current.currentTime, duration);
    seek.value = position;
    seek.setAttribute("aria-valuetext", clock(position) + " of " + clock(duration));
    time.textContent = clock(position);
    for (const figure of figures) {
      const cursor = figure.querySelector(".cursor");
      const box = stage(figure);
      cursor.hidden = position === 0;
      cursor.style.left = box.left - figure.getBoundingClientRect().left + (position / duration) * box.width + "px";
    }
  };

  const follow = () => {
    show();
    if (!current.paused) requestAnimationFrame(follow);
  };

  // Take another sound at the same moment, so that tracks can be compared word by word.
  const choose = (sound) => {
    if (sound === current) return;
    const playing = !current.paused;
    sound.currentTime = current.currentTime;
    current.pause();
    current = sound;
    choices[sounds.indexOf(sound)].checked = true;
    if (playing) sound.play();
  };

  const state = () => {
    button.setAttribute("aria-pressed", String(!current.paused));
    button.setAttribute("aria-label", current.paused ? "Play" : "Pause");
  };

  for (const sound of sounds) {
    sound.addEventListener("play", () => {
      for (const other of sounds) if (other !== sound) other.pause();
      current = sound;
      choices[sounds.indexOf(sound)].checked = true;
      state();
      follow();
    });
    sound.addEventListener("pause", state);
    sound.addEventListener("seeked", () => { if (sound === current) show(); });
  }
  button.addEventListener("click", () => (current.paused ? current.play() : current.pause()));
  seek.addEventListener("input", () => { current.currentTime = Number(seek.value); });
  choices.forEach((choice, index) => choice.addEventListener("change", () => choose(sounds[index])));
  for (const figure of figures) {
    figure.addEventListener("click", (event) => {
      const box = stage(figure);
      const place = (event.clientX - box.left) / box.width;
      if (place < 0 || place > 1) return;
      const card = figure.closest(".card");
      if (card) choose(card.querySelector("audio"));
      current.currentTime = place * duration;
      show();
    });
  }
  addEventListener("resize", show);
  deck.hidden = false;
  document.body.classList.add("has-deck");
  show();
})();
