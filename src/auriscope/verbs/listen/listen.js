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

  // The words of every talker, in order of time, and those that are marked as being said.
  const said = document.getElementById("said");
  const lines = said ? [...said.querySelectorAll("[data-track]")] : [];
  const spoken = new Map();
  for (const line of lines) {
    const words = spoken.get(line.dataset.track) || [];
    for (const word of line.querySelectorAll("button")) words.push({ from: Number(word.dataset.from), to: Number(word.dataset.to), word });
    spoken.set(line.dataset.track, words);
  }
  let marked = [];

  const mark = (position) => {
    const now = [];
    for (const [track, words] of spoken) {
      if (position === 0 || (spoken.has(current.dataset.sound) && current.dataset.sound !== track)) continue;
      let low = 0;
      let high = words.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (words[middle].from <= position) low = middle + 1; else high = middle;
      }
      if (low && position < words[low - 1].to) now.push(words[low - 1].word);
    }
    if (now.length === marked.length && now.every((word, index) => word === marked[index])) return;
    for (const word of marked) word.classList.remove("now");
    for (const word of now) word.classList.add("now");
    marked = now;
  };

  const show = () => {
    const position = Math.min(current.currentTime, duration);
    seek.value = position;
    seek.setAttribute("aria-valuetext", clock(position) + " of " + clock(duration));
    time.textContent = clock(position);
    mark(position);
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

  // A sound that is told to pause before it has begun says so as a failure, which is none.
  const play = (sound) => sound.play().catch(() => {});

  // Take another sound at the same moment, so that tracks can be compared word by word.
  const choose = (sound) => {
    if (sound === current) return;
    const playing = !current.paused;
    sound.currentTime = current.currentTime;
    current.pause();
    current = sound;
    choices[sounds.indexOf(sound)].checked = true;
    if (playing) play(sound);
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
  button.addEventListener("click", () => (current.paused ? play(current) : current.pause()));
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
  // One word of a line is in the order of the Tab key; the arrows reach the others.
  const visit = (word) => {
    if (!word) return;
    for (const other of word.parentElement.querySelectorAll("button")) other.tabIndex = other === word ? 0 : -1;
    word.focus();
  };
  const beside = (word, step) => {
    const line = word.closest("[data-track]");
    const words = [...line.querySelectorAll("button")];
    const next = words[words.indexOf(word) + step];
    if (next) return next;
    const other = lines[lines.indexOf(line) + step];
    return other && (step > 0 ? other.querySelector("button") : other.querySelector("button:last-of-type"));
  };
  const below = (word, step) => {
    const line = lines[lines.indexOf(word.closest("[data-track]")) + step];
    return line && line.querySelector("button");
  };
  const moves = {
    ArrowRight: (word) => beside(word, 1),
    ArrowLeft: (word) => beside(word, -1),
    ArrowDown: (word) => below(word, 1),
    ArrowUp: (word) => below(word, -1),
  };
  if (said) {
    said.addEventListener("click", (event) => {
      const word = event.target.closest("button");
      if (!word) return;
      visit(word);
      choose(sounds.find((sound) => sound.dataset.sound === word.closest("[data-track]").dataset.track));
      current.currentTime = Number(word.dataset.from);
      show();
      play(current);
    });
    said.addEventListener("keydown", (event) => {
      const word = event.target.closest("button");
      if (!word || !moves[event.key] || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      visit(moves[event.key](word));
    });
  }
  addEventListener("resize", show);
  deck.hidden = false;
  document.body.classList.add("has-deck");
  show();
})();
