// A player that knows what of its sound was heard. The sound is loaded whole before it can be played, so that it never
// stutters, and only one player plays at a time.

const ATTEMPTS = 4;
const SLACK_SECONDS = 0.1;
let playing = null;

/** Load a sound, trying again while the network is away, and give it as an address of this page. */
async function load(url) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      const answer = await fetch(url, { credentials: "same-origin" });
      if (!answer.ok) throw new Error(`${answer.status}`);
      const sound = await answer.blob();
      return URL.createObjectURL(new Blob([sound], { type: "audio/wav" }));
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
      await new Promise((resolve) => { setTimeout(resolve, 400 * 2 ** attempt); });
    }
  }
}

/** Merge stretches [from, to] of seconds that touch or overlap. */
export function merged(stretches) {
  const found = [];
  for (const [from, to] of [...stretches].sort((a, b) => a[0] - b[0])) {
    const last = found.at(-1);
    if (last && from <= last[1] + 0.05) last[1] = Math.max(last[1], to);
    else found.push([from, to]);
  }
  return found;
}

export class Player {
  /**
   * @param {HTMLElement} element holds .play, progress and .state; data-url is the sound's address
   * @param {{stretches?: number[][], plays?: number}} before what was heard, and how often begun, before a reload
   * @param {(player: Player) => void} changed called whenever something was heard
   */
  constructor(element, before = {}, changed = () => {}) {
    this.element = element;
    this.button = element.querySelector(".play");
    this.bar = element.querySelector("progress");
    this.state = element.querySelector(".state");
    this.before = before.stretches ?? [];
    this.plays = before.plays ?? 0;
    this.changed = changed;
    this.audio = new Audio();
    this.audio.preload = "auto";
    this.isReady = false;
    this.button.addEventListener("click", () => this.press());
    for (const name of ["play", "pause", "timeupdate", "ended"]) {
      this.audio.addEventListener(name, () => this.update());
    }
    this.audio.addEventListener("play", () => { if (this.audio.currentTime < SLACK_SECONDS) this.plays += 1; });
    this.fetch();
  }

  async fetch() {
    this.button.disabled = true;
    try {
      const address = await load(this.element.dataset.url);
      await new Promise((resolve, reject) => {
        this.audio.addEventListener("loadedmetadata", resolve, { once: true });
        this.audio.addEventListener("error", reject, { once: true });
        this.audio.src = address;
      });
      this.isReady = true;
    } catch {
      this.isReady = false;
    }
    this.button.disabled = false;
    this.update();
  }

  press() {
    if (!this.isReady) {
      this.fetch();
    } else if (this.audio.paused) {
      if (playing && playing !== this) playing.audio.pause();
      playing = this;
      this.audio.play().catch(() => this.update());
    } else {
      this.audio.pause();
    }
  }

  /** The stretches that were heard, in seconds. */
  get stretches() {
    const played = this.audio.played;
    const now = Array.from({ length: played.length }, (_, index) => [played.start(index), played.end(index)]);
    return merged([...this.before, ...now]);
  }

  /** How many seconds were heard, each counted once. */
  get heard() {
    return this.stretches.reduce((sum, [from, to]) => sum + to - from, 0);
  }

  /** Whether the whole sound was heard. */
  get isHeard() {
    return this.isReady && this.heard >= this.audio.duration - SLACK_SECONDS;
  }

  update() {
    const { audio, button, state } = this;
    const words = button.dataset;
    const isBegun = audio.currentTime > 0 && !audio.ended;
    let word = words.play;
    if (!this.isReady) word = words.again;
    else if (!audio.paused) word = words.pause;
    else if (isBegun) word = words.resume;
    else if (this.isHeard) word = words.replay;
    button.querySelector(".verb").textContent = word;
    button.classList.toggle("second", this.isReady && this.isHeard && audio.paused);
    this.bar.value = audio.duration ? Math.min(1, audio.currentTime / audio.duration) : 0;
    const text = this.isReady ? (this.isHeard ? `✓ ${state.dataset.heard}` : state.dataset.notHeard) : state.dataset.failed;
    if (state.textContent !== text) state.textContent = text;
    state.classList.toggle("heard", this.isHeard);
    state.classList.toggle("failed", !this.isReady);
    this.changed(this);
  }
}
