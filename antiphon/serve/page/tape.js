// Keeps the conversation's sound, to be heard again and saved: both sides on one clock, the model left, the user right.

import { RATE, wavHeader } from "./sound.js";

const PART = 10 * RATE; // samples that are put away at once: browsers keep a Blob on the disk, arrays in memory
const MOST = 2 * 3600 * RATE; // samples; a wav of two hours has 690 MB
const SIDES = { model: 0, you: 1 };
const FRAME = 4; // bytes: two sides of 16 bits

export class Tape {
  constructor() {
    this.parts = [];
    this.open = [];
    this.openSamples = 0;
    this.samples = 0;
  }

  get seconds() {
    return this.samples / RATE;
  }

  /** Takes a block of both, 16 bits, equally long. */
  push(voice, microphone) {
    if (this.samples >= MOST) return;
    const both = new Int16Array(2 * voice.length);
    for (let i = 0; i < voice.length; i++) {
      both[2 * i] = voice[i];
      both[2 * i + 1] = microphone[i];
    }
    this.open.push(both);
    this.openSamples += voice.length;
    this.samples += voice.length;
    if (this.openSamples >= PART) {
      this.parts.push(new Blob(this.open));
      this.open = [];
      this.openSamples = 0;
    }
  }

  /** A wav file of all of it. */
  wav() {
    return new Blob([wavHeader(this.samples, 2), ...this.parts, ...this.open], { type: "audio/wav" });
  }

  /** What one side said between two moments, in seconds: 16-bit samples. */
  async slice(who, from, until) {
    const [first, last] = [from, until].map((seconds) => FRAME * Math.round(Math.max(0, seconds) * RATE));
    const bytes = await new Blob([...this.parts, ...this.open]).slice(first, last).arrayBuffer();
    const both = new Int16Array(bytes.slice(0, bytes.byteLength - (bytes.byteLength % FRAME)));
    return both.filter((_, i) => i % 2 === SIDES[who]);
  }
}

/** 16-bit samples of one side as a wav file. */
export function wavOf(samples) {
  return new Blob([wavHeader(samples.length, 1), samples], { type: "audio/wav" });
}

/** Gives the user a file. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
