// From one sample rate to another, in pieces, for browsers that give the microphone only at its own rate.

const REACH = 16; // input samples on each side of an output sample, at a cutoff of 1

function gcd(a, b) {
  return b ? gcd(b, a % b) : a;
}

/**
 * A streaming resampler: windowed sinc, one set of taps for each of the few positions that an output sample can have
 * between two input samples. In pieces or whole, the result is the same.
 */
export class Resampler {
  constructor(from, to) {
    const common = gcd(from, to);
    this.up = to / common;
    this.down = from / common;
    // A little below the lower rate's limit, so that what is above it doesn't come back as something else.
    const cutoff = Math.min(1, to / from) * 0.94;
    this.half = Math.ceil(REACH / cutoff);
    this.taps = Array.from({ length: this.up }, (_, phase) => this.#tapsAt(phase / this.up, cutoff));
    this.kept = new Float32Array(this.half - 1); // as if silence had come before
    this.at = 0; // of the next output sample: its position in `kept`, times `up`
  }

  #tapsAt(fraction, cutoff) {
    const taps = new Float64Array(2 * this.half);
    let sum = 0;
    for (let k = 0; k < taps.length; k++) {
      const x = k - (this.half - 1) - fraction;
      const sinc = x === 0 ? 1 : Math.sin(Math.PI * cutoff * x) / (Math.PI * cutoff * x);
      taps[k] = sinc * (0.5 + 0.5 * Math.cos((Math.PI * x) / this.half));
      sum += taps[k];
    }
    return taps.map((tap) => tap / sum);
  }

  /** Takes input samples, gives as many output samples as they are enough for. */
  step(samples) {
    const all = new Float32Array(this.kept.length + samples.length);
    all.set(this.kept);
    all.set(samples, this.kept.length);
    const out = [];
    let first = Math.floor(this.at / this.up);
    while (first + 2 * this.half <= all.length) {
      const taps = this.taps[this.at % this.up];
      let sum = 0;
      for (let k = 0; k < taps.length; k++) sum += taps[k] * all[first + k];
      out.push(sum);
      this.at += this.down;
      first = Math.floor(this.at / this.up);
    }
    const gone = Math.min(first, all.length);
    this.kept = all.slice(gone);
    this.at -= gone * this.up;
    return Float32Array.from(out);
  }
}
