// The telephone line, on the audio thread: the microphone goes out, the model's voice comes in. Both pass through one
// processor, and so lie on one clock: what is saved has its pauses where they were heard.

import { JitterBuffer } from "./jitter.js";
import { Resampler } from "./resample.js";
import { RATE, toPcm } from "./sound.js";

const BLOCK = 960; // samples at 24 kHz that are handed over at once: 40 ms

/** A queue of samples. */
class Samples {
  constructor() {
    this.held = new Float32Array(0);
  }

  push(samples) {
    const all = new Float32Array(this.held.length + samples.length);
    all.set(this.held);
    all.set(samples, this.held.length);
    this.held = all;
  }

  take(count) {
    const taken = this.held.slice(0, count);
    this.held = this.held.slice(count);
    return taken;
  }
}

class LineProcessor extends AudioWorkletProcessor {
  constructor() {
    super();
    this.buffer = new JitterBuffer();
    // A context that couldn't be had at our rate runs at the device's; then both directions are converted here.
    this.inward = sampleRate === RATE ? null : new Resampler(sampleRate, RATE);
    this.outward = sampleRate === RATE ? null : new Resampler(RATE, sampleRate);
    this.ready = new Samples(); // of the voice, at the context's rate
    this.microphone = new Samples();
    this.voice = new Samples();
    this.open = true;
    this.port.onmessage = ({ data }) => this.#told(data);
  }

  #told({ kind, item, samples }) {
    if (kind === "push") this.buffer.push(item, samples);
    else if (kind === "end") this.buffer.end(item);
    else if (kind === "clear") {
      this.ready = new Samples();
      this.#tellFinished(); // what was heard to its end isn't cut
      this.port.postMessage({ kind: "cleared", heard: this.buffer.clear() });
    } else if (kind === "close") this.open = false;
  }

  #tellFinished() {
    for (const item of this.buffer.finished.splice(0)) this.port.postMessage({ kind: "finished", item });
  }

  #pull(count) {
    const part = new Float32Array(count);
    this.buffer.pull(part);
    this.voice.push(part);
    return part;
  }

  process([input], [output]) {
    const out = output[0];
    const silence = input[0] === undefined; // no microphone yet
    const came = silence ? new Float32Array(out.length) : input[0];
    this.microphone.push(this.inward ? this.inward.step(came) : came);
    if (this.outward) {
      while (this.ready.held.length < out.length) this.ready.push(this.outward.step(this.#pull(64)));
      out.set(this.ready.take(out.length));
    } else {
      out.set(this.#pull(out.length));
    }
    const { buffer } = this;
    for (const item of buffer.began.splice(0)) this.port.postMessage({ kind: "began", item });
    this.#tellFinished();
    while (Math.min(this.microphone.held.length, this.voice.held.length) >= BLOCK) {
      const microphone = toPcm(this.microphone.take(BLOCK));
      const voice = toPcm(this.voice.take(BLOCK));
      const state = { sounding: buffer.sounding, waiting: buffer.waiting / RATE, gaps: buffer.gaps };
      this.port.postMessage({ kind: "block", microphone, voice, ...state }, [microphone.buffer, voice.buffer]);
    }
    return this.open;
  }
}

registerProcessor("line", LineProcessor);
