// Plays again what was said.

import { fromPcm, RATE } from "./sound.js";

const BLOCK = 960; // samples that are shown at once: 40 ms

export class Replay {
  /**
   * @param sounds a function that is told what sounds now, 40 ms as 16-bit samples, and after how many seconds;
   *   `ended` one that is called when it is over, or was stopped.
   */
  constructor(sounds, ended) {
    this.sounds = sounds;
    this.ended = ended;
    this.context = null;
    this.ticking = null;
  }

  /** Plays 16-bit samples, as loud as `volume`. To be called from a click or a key. */
  async play(samples, volume) {
    this.stop();
    const context = new AudioContext();
    this.context = context;
    const buffer = new AudioBuffer({ length: Math.max(1, samples.length), sampleRate: RATE });
    buffer.copyToChannel(fromPcm(samples), 0);
    const source = new AudioBufferSourceNode(context, { buffer });
    source.connect(new GainNode(context, { gain: volume })).connect(context.destination);
    source.onended = () => this.context === context && this.stop();
    source.start();
    this.ticking = setInterval(() => {
      const seconds = context.currentTime - (context.outputLatency || 0);
      const at = Math.max(0, Math.round(seconds * RATE));
      this.sounds(samples.subarray(at, at + BLOCK), seconds);
    }, 40);
  }

  get isPlaying() {
    return this.context !== null;
  }

  stop() {
    if (!this.context) return;
    clearInterval(this.ticking);
    this.context.close();
    this.context = null;
    this.ended();
  }
}
