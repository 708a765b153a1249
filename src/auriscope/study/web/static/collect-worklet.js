// Runs on the audio thread: turns what the microphone gives into 16-bit samples, and tells the level.

const LEVEL_FRAMES = 2048;
const CHUNK_FRAMES = 8192;

class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.recording = false;
    this.chunk = new Int16Array(CHUNK_FRAMES);
    this.filled = 0;
    this.peak = 0;
    this.energy = 0;
    this.measured = 0;
    this.port.onmessage = ({ data }) => {
      if (data.start) {
        this.filled = 0;
        this.left = data.start;
        this.recording = true;
      } else if (data.stop && this.recording) {
        this.end(false);
      }
    };
  }

  flush() {
    const samples = this.chunk.slice(0, this.filled);
    this.filled = 0;
    this.port.postMessage({ kind: "samples", samples }, [samples.buffer]);
  }

  end(full) {
    this.recording = false;
    this.flush();
    this.port.postMessage({ kind: "end", full });
  }

  process(inputs) {
    // The first channel alone: adding two microphones up would colour the sound.
    const input = inputs[0][0];
    if (!input) return true;
    for (const value of input) {
      const size = Math.abs(value);
      if (size > this.peak) this.peak = size;
      this.energy += value * value;
    }
    this.measured += input.length;
    if (this.measured >= LEVEL_FRAMES) {
      const rms = Math.sqrt(this.energy / this.measured);
      this.port.postMessage({ kind: "level", peak: this.peak, rms, seconds: this.measured / sampleRate });
      this.peak = this.energy = this.measured = 0;
    }
    if (this.recording) {
      for (const value of input) {
        // A microphone's 16-bit samples come as multiples of 1/32768, and so come back as they were.
        this.chunk[this.filled++] = Math.max(-32768, Math.min(32767, Math.round(value * 32768)));
        if (this.filled === CHUNK_FRAMES) this.flush();
        this.left -= 1;
        if (this.left === 0) {
          this.end(true);
          break;
        }
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
