// Keeps the conversation, to be saved: both sides on one clock, the model left, the user right, and the words.

import { RATE, wavHeader } from "./sound.js";

const PART = 10 * RATE; // samples that are put away at once: browsers keep a Blob on the disk, arrays in memory
const MOST = 2 * 3600 * RATE; // samples; a wav of two hours has 690 MB

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
}

/** Seconds -> "1:05". */
export function clockText(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** The words of a conversation as plain text. */
export function asText(turns, model, when) {
  const lines = turns
    .filter(({ text, note }) => text || note)
    .map(({ who, text, at, note }) => {
      const cut = note ? `${text ? " ... " : ""}(${note})` : "";
      return `[${clockText(at)}] ${who === "you" ? "You" : "Model"}: ${text}${cut}`;
    });
  return [`Conversation with ${model}, ${when}`, "", ...lines, ""].join("\n");
}

/** Gives the user a file. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
