// The headphone check: the volume first, then one trial of three tones after the other.

import { Player } from "./rate-player.js";

const form = document.getElementById("check");
const status = document.getElementById("status");
const steps = [...document.querySelectorAll(".step")];
const players = steps.map((step) => new Player(step.querySelector(".player")));
const answers = [];

function tell(text, isBad = false) {
  status.textContent = text;
  status.classList.toggle("bad", isBad);
}

function show(index) {
  steps.forEach((step, place) => { step.hidden = place !== index; });
  steps[index].querySelector("h2").focus();
  tell("");
}

async function send(button) {
  button.disabled = true;
  tell(status.dataset.sending);
  try {
    const answer = await fetch("/api/headphones", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": document.body.dataset.csrf },
      body: JSON.stringify({ attempt: Number(form.dataset.attempt), answers }),
      credentials: "same-origin",
    });
    if (answer.ok || answer.status === 409 || answer.status === 401) {
      window.location.assign("/rate");
      return;
    }
  } catch {
    // Told below; the answers are still here.
  }
  tell(status.dataset.failed, true);
  button.disabled = false;
}

steps.forEach((step, index) => {
  const button = step.querySelector(".go-on");
  button.addEventListener("click", () => {
    players[index].audio.pause();
    if (index > 0) {
      const checked = step.querySelector("input:checked");
      if (!checked || !players[index].isHeard) {
        tell(status.dataset.choose, true);
        return;
      }
      answers[index - 1] = Number(checked.value);
    }
    if (index + 1 < steps.length) show(index + 1);
    else send(button);
  });
});
