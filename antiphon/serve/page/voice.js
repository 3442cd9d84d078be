// The living voice in the middle: two rings of fine threads, two choirs. The outer one is the model's, the inner one the
// user's. They swing as strings do, each band of the sound in as many waves as it is high, and lie still when nobody
// speaks.

const THREADS = { model: 15, you: 9 };
const RADIUS = { model: 0.72, you: 0.46 }; // of half the canvas
const SWING = { model: 0.3, you: 0.34 }; // of the radius, for a band that is as loud as can be
const RISE = 0.45; // of the way to a louder sound, in a frame; and to a quieter one
const FALL = 0.12;
const STEP = 1000 / 40; // milliseconds between two frames
const BROKEN = 1500; // milliseconds that an interrupted ring stays open
const POINTS = 144;

export class Voice {
  /** @param canvas where it is drawn. */
  constructor(canvas) {
    this.canvas = canvas;
    this.state = "idle";
    this.heard = { model: new Float32Array(8), you: new Float32Array(8) };
    this.shown = { model: new Float32Array(8), you: new Float32Array(8) };
    this.mix = { thinking: 0, broken: 0, muted: 0, live: 0 }; // how far each look has set in, 0 to 1
    this.brokenAt = -Infinity;
    this.last = 0;
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    for (const query of [this.calm, this.dark]) query.addEventListener("change", () => this.#look());
    new ResizeObserver(() => this.draw(this.last)).observe(canvas);
    this.#look();
    requestAnimationFrame((now) => this.#frame(now));
  }

  /** What both sides sound like now: 8 bands each, 0 to 1. */
  hear(side, bands) {
    this.heard[side].set(bands);
  }

  /** "idle", "connecting", "ready", "muted", "listening", "you", "thinking" or "model". */
  show(state) {
    if (state === this.state) return;
    this.state = state;
    if (this.calm.matches) this.#still();
  }

  /** An answer was interrupted. */
  break() {
    this.brokenAt = performance.now();
    this.heard.model.fill(0);
  }

  #look() {
    const style = getComputedStyle(this.canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    this.colours = { model: colour("--main"), you: colour("--ink"), rest: colour("--rest") };
    if (this.calm.matches) this.#still();
    this.draw(this.last);
  }

  /** For who wants little motion: a picture for each state, which changes with the state alone. */
  #still() {
    const shape = [0.5, 0.35, 0.45, 0.2, 0.3, 0.15, 0.2, 0.1];
    for (const side of ["model", "you"]) this.shown[side].set(shape.map((part) => (this.state === side ? part : 0)));
    for (const name of Object.keys(this.mix)) this.mix[name] = this.#wanted(name, performance.now());
    this.draw(0);
  }

  #wanted(name, now) {
    if (name === "thinking") return Number(["thinking", "connecting"].includes(this.state));
    if (name === "broken") return Number(now - this.brokenAt < BROKEN);
    if (name === "muted") return Number(this.state === "muted" || this.state === "ready");
    return Number(!["idle", "connecting", "ending"].includes(this.state));
  }

  #frame(now) {
    requestAnimationFrame((next) => this.#frame(next));
    if (this.calm.matches || now - this.last < STEP - 4) return;
    this.last = now;
    for (const side of ["model", "you"]) {
      const [heard, shown] = [this.heard[side], this.shown[side]];
      for (let k = 0; k < shown.length; k++) shown[k] += (heard[k] - shown[k]) * (heard[k] > shown[k] ? RISE : FALL);
      heard.forEach((_, k) => (heard[k] *= 0.9)); // blocks come every 40 ms; where they stay away, it falls silent
    }
    for (const name of Object.keys(this.mix)) this.mix[name] += (this.#wanted(name, now) - this.mix[name]) * 0.14;
    this.draw(now);
  }

  draw(now) {
    const { canvas, mix } = this;
    const ratio = devicePixelRatio;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const paper = canvas.getContext("2d");
    paper.setTransform(ratio, 0, 0, ratio, (width * ratio) / 2, (height * ratio) / 2);
    paper.clearRect(-width, -height, 2 * width, 2 * height);
    const half = Math.min(width, height) / 2;
    const seconds = now / 1000;
    for (const side of ["you", "model"]) {
      const ring = { side, radius: half * RADIUS[side], seconds, half };
      const rest = side === "model" ? 1 - mix.live : Math.max(1 - mix.live, mix.muted);
      // At rest a ring is grey; its colour is its being there.
      this.#threads(paper, ring, this.colours.rest, rest);
      this.#threads(paper, ring, this.colours[side], 1 - rest);
    }
  }

  #threads(paper, { side, radius, seconds, half }, colour, strength) {
    if (strength < 0.02) return;
    const count = THREADS[side];
    const level = this.shown[side].reduce((sum, part) => sum + part, 0) / 8;
    const breath = 1 + 0.012 * Math.sin(seconds * 0.9 + (side === "you" ? 1.6 : 0));
    paper.strokeStyle = colour;
    paper.lineWidth = Math.max(0.8, half / 170);
    paper.lineJoin = "round";
    for (let thread = 0; thread < count; thread++) {
      const place = count === 1 ? 0 : (2 * thread) / (count - 1) - 1; // -1 ... 1
      const there = side === "you" ? 0.65 + 0.35 * Math.min(1, 4 * level) : 1; // who hears is quieter to the eye
      paper.globalAlpha = strength * there * (0.85 - 0.45 * Math.abs(place));
      this.#thread(paper, side, radius * breath * (1 + 0.05 * level), place, seconds);
    }
    paper.globalAlpha = 1;
  }

  /** One thread: the outer ones swing the most, to both sides, and all of them meet where a string stands still. */
  #thread(paper, side, radius, place, seconds) {
    const { mix } = this;
    const bands = this.shown[side];
    const way = side === "model" ? 1 : -1;
    // Interrupted: the model's ring stands open where it was cut.
    const gap = side === "model" ? mix.broken * (0.42 + 0.1 * place) : 0;
    paper.beginPath();
    for (let point = 0; point <= POINTS; point++) {
      const angle = -Math.PI / 2 + gap + ((2 * Math.PI - 2 * gap) * point) / POINTS;
      // What tells threads from a line while all is quiet.
      let swing = place * (0.016 * Math.sin(3 * angle + seconds * 0.5 * way) + 0.009 * Math.sin(5 * angle - seconds * 0.37));
      for (let k = 0; k < bands.length; k++) {
        if (bands[k] < 0.01) continue;
        const phase = (k + 2) * angle + (k % 2 ? -way : way) * seconds * (0.5 + 0.12 * k) + k * 1.9;
        swing += place * bands[k] ** 1.5 * (SWING[side] / (1.6 + 0.3 * k)) * Math.sin(phase);
      }
      if (side === "model" && mix.thinking > 0.01) {
        // Thinking: the threads are loosened in one place, and that place goes round.
        const apart = Math.atan2(Math.sin(angle - seconds * 2.1), Math.cos(angle - seconds * 2.1));
        swing += mix.thinking * 0.13 * place * Math.exp(-((apart / 0.75) ** 2));
      }
      const distance = radius * (1 + swing);
      paper[point ? "lineTo" : "moveTo"](distance * Math.cos(angle), distance * Math.sin(angle));
    }
    paper.stroke();
  }
}
