// The microphone without any processing, and what it hears as a WAV file.

const PROCESSING = ["echoCancellation", "noiseSuppression", "autoGainControl"];

/** Say why this browser cannot record, as the key of a text; null if it can. */
export function whyImpossible() {
  if (!window.isSecureContext) return "insecure";
  const able = navigator.mediaDevices?.getUserMedia && window.AudioWorkletNode && window.crypto?.subtle;
  return able ? null : "no_recorder";
}

/** Decibels relative to full scale, of an amplitude; no lower than -100. */
export function decibels(amplitude) {
  return amplitude > 1e-5 ? 20 * Math.log10(amplitude) : -100;
}

/** Put 16-bit samples of one channel into a WAV file. */
export function wavOf(chunks, sampleRate) {
  const numBytes = 2 * chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const header = new DataView(new ArrayBuffer(44));
  const text = (offset, letters) => [...letters].forEach((letter, i) => header.setUint8(offset + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  header.setUint32(4, 36 + numBytes, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true);
  header.setUint16(22, 1, true);
  header.setUint32(24, sampleRate, true);
  header.setUint32(28, 2 * sampleRate, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  text(36, "data");
  header.setUint32(40, numBytes, true);
  // Typed arrays are little-endian wherever browsers run.
  return new Blob([header, ...chunks], { type: "audio/wav" });
}

export class Microphone {
  /** Ask for the microphone and start listening to its level; throws what getUserMedia throws. */
  static async open() {
    const off = Object.fromEntries(PROCESSING.map((name) => [name, false]));
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { ...off, channelCount: { ideal: 1 } } });
    try {
      const microphone = new Microphone(stream);
      await microphone.connect();
      return microphone;
    } catch (error) {
      stream.getTracks().forEach((track) => track.stop());
      throw error;
    }
  }

  constructor(stream) {
    this.stream = stream;
    this.track = stream.getAudioTracks()[0];
    this.peak = 0;
    this.onLevel = () => {};
    this.onLost = () => {};
  }

  async connect() {
    const { sampleRate } = this.track.getSettings();
    try {
      // The microphone's own rate, so that nothing is resampled on the way.
      this.context = sampleRate ? new AudioContext({ sampleRate }) : new AudioContext();
      this.source = this.context.createMediaStreamSource(this.stream);
    } catch {
      this.context?.close();
      this.context = new AudioContext();
      this.source = this.context.createMediaStreamSource(this.stream);
    }
    await this.context.audioWorklet.addModule("/static/collect-worklet.js");
    this.node = new AudioWorkletNode(this.context, "recorder");
    this.node.port.onmessage = ({ data }) => this.hear(data);
    // Its output is silence; but some browsers only run what leads to the loudspeakers.
    this.source.connect(this.node).connect(this.context.destination);
    await this.context.resume();
    const lost = () => this.close() && this.onLost();
    this.track.addEventListener("ended", lost);
    // A telephone call takes the microphone away without ending the track.
    this.context.addEventListener("statechange", () => this.context.state !== "running" && lost());
  }

  get sampleRate() {
    return this.context.sampleRate;
  }

  /** What the track says of itself: the processing that is on, its rate and its channels. */
  get settings() {
    const settings = this.track.getSettings();
    const told = Object.fromEntries(PROCESSING.map((name) => [name, isOn(settings[name])]));
    return { ...told, sampleRate: settings.sampleRate ?? null, channelCount: settings.channelCount ?? null };
  }

  /** The processing that the browser kept on although it was asked not to. */
  get keptOn() {
    return PROCESSING.filter((name) => this.settings[name]);
  }

  hear(message) {
    if (message.kind === "level") {
      this.peak = Math.max(this.peak, message.peak);
      this.onLevel(message);
    } else if (message.kind === "samples") {
      this.chunks.push(message.samples);
    } else if (message.kind === "end") {
      this.finish?.(message.full);
    }
  }

  /**
   * Record until `stop` is called or so many seconds are full, and give the recording with its seconds, peak, level, and
   * whether it is full; null if the microphone was lost meanwhile.
   */
  async record(maxSeconds) {
    this.chunks = [];
    const end = new Promise((resolve) => (this.finish = resolve));
    this.node.port.postMessage({ start: Math.floor(maxSeconds * this.sampleRate) });
    const full = await end;
    return full === null ? null : { ...measure(this.chunks, this.sampleRate), full };
  }

  stop() {
    this.node.port.postMessage({ stop: true });
  }

  /** Let the microphone go; say whether it was still held. */
  close() {
    if (this.closed) return false;
    this.closed = true;
    this.finish?.(null);
    this.track.stop();
    this.context.close();
    return true;
  }
}

function measure(chunks, sampleRate) {
  let [numFrames, peak, energy] = [0, 0, 0];
  for (const chunk of chunks) {
    numFrames += chunk.length;
    for (const value of chunk) {
      peak = Math.max(peak, Math.abs(value));
      energy += value * value;
    }
  }
  return {
    blob: wavOf(chunks, sampleRate),
    seconds: numFrames / sampleRate,
    peak: peak / 32768,
    rms: Math.sqrt(energy / Math.max(1, numFrames)) / 32768,
  };
}

function isOn(value) {
  // Echo cancellation may also be named by its kind.
  return value === undefined ? null : Boolean(value);
}
