// The page of a collection, from the microphone's check to the last recording.

import { Microphone, decibels, whyImpossible } from "/static/collect-microphone.js";
import { Outbox, Refusal, newKey, sha256Of, untilOnline } from "/static/collect-outbox.js";

const QUIET_DB = -55;
const TOO_LOUD_PEAK = 0.985;
const HEARD_SECONDS = 0.5;
const SAYING_HOLDS_MILLISECONDS = 700;

const $ = (id) => document.getElementById(id);
const root = $("collect");
const csrf = document.body.dataset.csrf;
const session = root.dataset.session;
const texts = JSON.parse(root.dataset.texts);
const limits = JSON.parse(root.dataset.limits);
const outbox = new Outbox(session, csrf);

let microphone = null;
let task = null;
let take = null;
let isRecording = false;

function say(key, values = {}) {
  return Object.entries(values).reduce((text, [name, value]) => text.replace(`{${name}}`, value), texts[key]);
}

/** Show one section, and bring the reader of the screen to its heading. */
function show(name) {
  for (const section of root.querySelectorAll("section")) section.hidden = section.id !== name;
  const heading = $(name).querySelector("h1");
  heading.focus({ preventScroll: true });
  heading.scrollIntoView({ block: "nearest" });
}

function step(name, focused) {
  for (const part of $("task").querySelectorAll("[id^=step-]")) part.hidden = part.id !== `step-${name}`;
  if (focused) $(focused).focus();
}

function tellIn(id, text) {
  $(id).hidden = !text;
  $(id).textContent = text;
}

function showArrived({ num_submissions: count, required }) {
  $("arrived").textContent = say("arrived", { count, required });
}

function giveUp(text) {
  $("impossible-why").textContent = text;
  show("impossible");
}

/** Ask the server, as often as it takes; null if it refuses, which the page then tells. */
async function api(path, options = {}) {
  for (let attempt = 0; ; attempt += 1) {
    const headers = { "X-CSRF-Token": csrf, ...(options.body ? { "Content-Type": "application/json" } : {}) };
    const response = await fetch(path, { cache: "no-store", ...options, headers }).catch(() => null);
    if (response?.ok) return response.status === 204 ? {} : response.json();
    if (response && response.status < 500 && response.status !== 429) {
      giveUp(say(response.status === 401 ? "refused_session" : "refused_form"));
      return null;
    }
    show("loading");
    $("loading-why").textContent = say("connecting");
    await untilOnline(Math.min(30, 2 ** attempt), () => {});
  }
}

// ---- The microphone's check ----

function check(problem = "") {
  show("check");
  $("check-before").hidden = false;
  $("check-after").hidden = true;
  tellIn("check-problem", problem);
}

async function turnOn() {
  $("allow").disabled = true;
  tellIn("check-problem", "");
  try {
    microphone = await Microphone.open();
  } catch (error) {
    const keys = { NotAllowedError: "denied", SecurityError: "denied", NotFoundError: "no_microphone" };
    tellIn("check-problem", say(keys[error.name] ?? "microphone_failed"));
    return;
  } finally {
    $("allow").disabled = false;
  }
  microphone.onLost = lost;
  for (const [name, isOn] of Object.entries(microphone.settings)) {
    if ($(`is-${name}`)) $(`is-${name}`).textContent = say(isOn === null ? "unknown" : isOn ? "on" : "off");
  }
  $("is-rate").textContent = say("hertz", { rate: microphone.sampleRate });
  const { keptOn } = microphone;
  tellIn("processed", keptOn.length ? say("processed", { list: keptOn.map((name) => say(name)).join(", ") }) : "");
  $("to-task").disabled = true;
  $("check-before").hidden = true;
  $("check-after").hidden = false;
  followLevel();
}

/** Follow the level, and let the participants go on when speech was heard. */
function followLevel() {
  let [heardSeconds, loudUntil, goodUntil, changedAt, said] = [0, 0, 0, 0, null];
  microphone.onLevel = ({ peak, rms, seconds }) => {
    const [level, now] = [decibels(rms), performance.now()];
    for (const meter of [$("level"), $("recording-level")]) meter.value = level;
    if ($("check").hidden) return;
    if (level > QUIET_DB) {
      heardSeconds += seconds;
      goodUntil = now + 1500;
    }
    if (peak > TOO_LOUD_PEAK) loudUntil = now + 1500;
    if (heardSeconds >= HEARD_SECONDS) $("to-task").disabled = false;
    const saying = now < loudUntil ? "level_high" : now < goodUntil ? "level_good" : "level_low";
    if (saying !== said && now - changedAt > SAYING_HOLDS_MILLISECONDS) {
      [said, changedAt] = [saying, now];
      $("level-says").textContent = say(saying);
      $("level-says").className = saying === "level_good" ? "good" : "warn";
    }
  };
}

async function leaveCheck() {
  const { echoCancellation, noiseSuppression, autoGainControl, sampleRate, channelCount } = microphone.settings;
  const equipment = {
    echo_cancellation: echoCancellation,
    noise_suppression: noiseSuppression,
    auto_gain_control: autoGainControl,
    channel_count: channelCount,
    track_sample_rate: sampleRate,
    sample_rate: microphone.sampleRate,
    peak_dbfs: decibels(microphone.peak),
  };
  if (await api("/api/equipment", { method: "POST", body: JSON.stringify(equipment) })) ready();
}

function lost() {
  microphone = null;
  const isNeeded = isRecording || !$("check").hidden || !$("step-ready").hidden || !$("step-countdown").hidden;
  if (isNeeded && $("sending").hidden) check(say("microphone_lost"));
}

// ---- Two sentences, and their recording ----

function showTask() {
  show("task");
  $("task-title").textContent = say("title", { number: task.position + 1, required: task.required });
  task.sentences.forEach(({ text, language }, index) => {
    $(`sentence${index + 1}`).textContent = text;
    $(`sentence${index + 1}`).lang = language;
  });
  tellIn("advice", outbox.isLasting ? "" : say("not_kept"));
}

function ready() {
  if (!microphone) return check();
  showTask();
  step("ready");
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function recordTask() {
  step("countdown");
  for (const word of ["3", "2", "1"]) {
    $("countdown").textContent = word;
    await pause(800);
    if (!microphone) return;
  }
  step("recording", "stop");
  $("stop").disabled = false;
  isRecording = true;
  const longest = Math.min(limits.max_seconds, (limits.max_bytes - 44) / 2 / microphone.sampleRate);
  const begun = performance.now();
  const showLeft = () => {
    const seconds = Math.max(0, Math.ceil(longest - (performance.now() - begun) / 1000));
    $("left").textContent = say("left", { seconds });
  };
  const timer = setInterval(showLeft, 250);
  showLeft();
  const recorded = await microphone.record(longest);
  clearInterval(timer);
  isRecording = false;
  if (recorded === null) return;
  const { echoCancellation, noiseSuppression, autoGainControl, sampleRate, channelCount } = microphone.settings;
  const { blob, ...facts } = recorded;
  const entry = {
    key: newKey(),
    session,
    task: task.id,
    blob,
    sha256: await sha256Of(blob),
    details: {
      echoCancellation,
      noiseSuppression,
      autoGainControl,
      sampleRate,
      channelCount,
      recorded_at: new Date().toISOString(),
      listened: false,
    },
    facts,
    madeAt: Date.now(),
    state: "draft",
  };
  await outbox.keep(entry);
  review(entry);
}

function adviceFor({ seconds, peak, rms, full }) {
  if (seconds < limits.min_seconds) return "too_short";
  if (peak > TOO_LOUD_PEAK) return "too_loud";
  if (decibels(rms) < QUIET_DB) return "too_quiet";
  return full ? "stopped" : null;
}

// ---- Listening again ----

function review(entry, wasRestored = false) {
  forgetTake();
  const isUsable = entry.facts.seconds >= limits.min_seconds;
  const sound = new Audio(URL.createObjectURL(entry.blob));
  take = { entry, sound };
  showTask();
  const advice = adviceFor(entry.facts);
  tellIn("advice", [wasRestored ? say("restored") : "", advice ? say(advice) : ""].join(" ").trim() || $("advice").textContent);
  $("send").disabled = true;
  $("listen").disabled = !isUsable;
  $("listen").classList.remove("second");
  $("listen").textContent = say("listen");
  $("heard").value = 0;
  $("review-says").textContent = isUsable ? say("review") : "";
  step("review", isUsable ? "listen" : "again");
  sound.onplay = () => {
    $("listen").textContent = say("pause");
  };
  sound.onpause = () => {
    $("listen").textContent = say("listen");
  };
  sound.ontimeupdate = () => {
    $("heard").value = Math.max($("heard").value, heardOf(sound));
  };
  sound.onended = () => {
    // Skipped parts do not count as heard.
    if (heardOf(sound) * sound.duration < sound.duration - 0.3) return;
    $("heard").value = 1;
    $("send").disabled = false;
    $("listen").classList.add("second");
    $("review-says").textContent = say("reviewed");
    $("send").focus();
  };
}

function heardOf({ played, duration }) {
  let seconds = 0;
  for (let index = 0; index < played.length; index += 1) seconds += played.end(index) - played.start(index);
  return duration > 0 ? Math.min(1, seconds / duration) : 0;
}

function forgetTake() {
  if (!take) return;
  take.sound.onended = null;
  take.sound.pause();
  URL.revokeObjectURL(take.sound.src);
  take = null;
}

async function recordAgain() {
  const { entry } = take;
  forgetTake();
  await outbox.remove(entry.key);
  if (microphone) await recordTask();
  else check();
}

// ---- Sending ----

async function sendTake() {
  const { entry } = take;
  forgetTake();
  entry.state = "sending";
  entry.details.listened = true;
  await outbox.keep(entry);
  if (await deliver(entry)) await goOn();
}

/** Send a recording until it is acknowledged; say whether it was. */
async function deliver(entry) {
  show("sending");
  const tell = ({ sent, wait }) => {
    if (sent !== undefined) {
      $("sent").value = sent;
      $("sending-says").textContent = say("percent", { percent: Math.floor(100 * sent) });
    } else {
      $("sending-says").textContent = say(navigator.onLine ? "waiting" : "waiting_offline", { seconds: wait });
    }
  };
  tell({ sent: 0 });
  try {
    showArrived(await outbox.send(entry, tell));
    return true;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    refuse(entry, error);
    return false;
  }
}

function refuse(entry, error) {
  const isOver = error.status === 401 || error.status === 403;
  const key = { 401: "refused_session", 403: "refused_form" }[error.status] ?? `refused_${error.key}`;
  const isDone = key === "refused_task_done";
  $("refused-why").textContent = say(key in texts ? key : "refused_other");
  // The server's own line is English.
  const isEnglish = document.documentElement.lang === "en";
  if (!(key in texts) && isEnglish && error.detail) $("refused-why").textContent += ` (${error.detail})`;
  $("refused-again").hidden = isOver;
  $("refused-again").textContent = say(isDone ? "next" : "again");
  $("refused-again").onclick = async () => {
    URL.revokeObjectURL($("refused-save").href);
    await outbox.remove(entry.key);
    await goOn();
  };
  $("refused-save").href = URL.createObjectURL(entry.blob);
  show("refused");
}

/** Go to the task that waits for its recording, or to the end. */
async function goOn() {
  let state = await api("/api/task");
  if (state && !state.task && !state.finished) state = await api("/api/task", { method: "POST" });
  if (!state) return;
  showArrived(state);
  const drafts = await outbox.waiting("draft");
  const mine = drafts.filter((entry) => entry.task === state.task?.id).pop();
  for (const entry of drafts) if (entry !== mine) await outbox.remove(entry.key);
  if (!state.task) {
    window.location.assign("/done");
    return;
  }
  task = { ...state.task, required: state.required };
  if (mine) review(mine, true);
  else ready();
}

async function main() {
  const why = whyImpossible();
  if (why) return giveUp(say(why));
  $("allow").addEventListener("click", turnOn);
  $("to-task").addEventListener("click", leaveCheck);
  $("start").addEventListener("click", recordTask);
  $("stop").addEventListener("click", () => {
    $("stop").disabled = true;
    microphone?.stop();
  });
  $("listen").addEventListener("click", () => (take.sound.paused ? take.sound.play() : take.sound.pause()));
  $("again").addEventListener("click", recordAgain);
  $("send").addEventListener("click", sendTake);
  window.addEventListener("beforeunload", (event) => {
    if (isRecording || (!outbox.isLasting && !$("sending").hidden)) event.preventDefault();
  });
  await outbox.open();
  for (const entry of await outbox.waiting("sending")) {
    if (!(await deliver(entry))) return;
  }
  await goOn();
}

main();
