// What is still to be played. Sound comes over the network in bursts, and must leave at an even pace.

import { RATE } from "./sound.js";

const LEAD = 0.12; // seconds that are gathered before an answer starts
const MOST_LEAD = 0.6; // ... at most, after gaps
const FADE = Math.round(0.005 * RATE); // samples in which sound that is cut off dies away, so that it doesn't click

/**
 * A jitter buffer for the sound of several items, one after the other. It starts when there is enough to bridge the
 * usual delay; if it runs dry all the same, it waits again, for more.
 */
export class JitterBuffer {
  constructor() {
    this.queue = []; // {item, samples, from}
    this.ended = new Set(); // items of which nothing more will come
    this.played = new Map(); // item -> samples that have left
    this.playing = false;
    this.lead = LEAD;
    this.gaps = 0;
    this.dry = null; // the item of which the last sample has left, though its end hasn't been told
    this.tail = new Float32Array(0);
    this.began = []; // items whose first sample has left, and those whose last has, since somebody took note
    this.finished = [];
  }

  /** Samples that wait. */
  get waiting() {
    return this.queue.reduce((sum, { samples, from }) => sum + samples.length - from, 0);
  }

  /** The item that is played, and how many samples of it have left: {item, samples}; null for silence. */
  get sounding() {
    const [part] = this.queue;
    return this.playing && part ? { item: part.item, samples: this.played.get(part.item) ?? 0 } : null;
  }

  /** More sound of an item. */
  push(item, samples) {
    if (samples.length === 0) return;
    if (this.dry === item) {
      this.gaps += 1;
      this.lead = Math.min(MOST_LEAD, this.lead * 1.5);
    }
    this.dry = null;
    this.queue.push({ item, samples, from: 0 });
  }

  /** That was all of an item. */
  end(item) {
    this.ended.add(item);
    if (!this.queue.some((part) => part.item === item)) this.#finish(item);
  }

  /** Fills `out`, with silence where there is nothing. */
  pull(out) {
    out.fill(0);
    const faded = Math.min(out.length, this.tail.length);
    out.set(this.tail.subarray(0, faded));
    this.tail = this.tail.slice(faded);
    if (!this.playing) this.playing = this.#enough();
    let at = 0;
    while (this.playing && at < out.length) {
      const part = this.queue[0];
      if (part === undefined) {
        this.playing = false;
        break;
      }
      const count = Math.min(out.length - at, part.samples.length - part.from);
      for (let i = 0; i < count; i++) out[at + i] += part.samples[part.from + i];
      at += count;
      part.from += count;
      if (!this.played.has(part.item)) this.began.push(part.item);
      this.played.set(part.item, (this.played.get(part.item) ?? 0) + count);
      if (part.from === part.samples.length) this.#next(part.item);
    }
  }

  /** Stops at once. Returns how many samples of each unfinished item have left: Map(item -> samples). */
  clear() {
    const cut = new Map(this.played);
    for (const { item } of this.queue) if (!cut.has(item)) cut.set(item, 0);
    if (this.playing && this.queue.length) {
      const { samples, from } = this.queue[0];
      this.tail = samples.slice(from, from + FADE).map((sample, i) => sample * (1 - (i + 1) / (FADE + 1)));
    }
    this.queue = [];
    this.playing = false;
    this.dry = null;
    this.played.clear();
    this.ended.clear();
    return cut;
  }

  #enough() {
    return this.queue.length > 0 && (this.ended.has(this.queue[0].item) || this.waiting >= this.lead * RATE);
  }

  #next(item) {
    this.queue.shift();
    if (this.queue[0]?.item === item) return;
    if (this.ended.has(item)) {
      this.#finish(item);
      this.lead = Math.max(LEAD, this.lead * 0.9); // it went well: a little bolder
    } else if (this.queue.length === 0) {
      this.playing = false;
      this.dry = item;
    }
  }

  #finish(item) {
    this.dry = null;
    if (this.played.delete(item)) this.finished.push(item);
    this.ended.delete(item);
    if (this.queue.length === 0) this.playing = false;
  }
}
