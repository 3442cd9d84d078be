// Who speaks: the last half minute of both sides, as loudness over time.

import { say } from "./words.js";

const SECONDS = 30;
const BLOCK = 0.04; // seconds in one entry
const EVERY = 3; // entries that are drawn as one bar, and after which it is drawn again
const QUIET = -50; // decibels that are drawn as nothing

export class Timeline {
  /** @param canvas where it is drawn, `words` the element that says the same in words. */
  constructor(canvas, words) {
    this.canvas = canvas;
    this.words = words;
    this.entries = [];
    this.count = 0;
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    for (const query of [this.calm, this.dark]) query.addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(canvas);
    this.#tell();
  }

  /** Takes what happened in 40 ms: levels in decibels, whether each was loud, whether an answer was interrupted. */
  push(entry) {
    this.entries.push(entry);
    if (this.entries.length > SECONDS / BLOCK) this.entries.shift();
    this.count += 1;
    // Who wants little motion gets a picture that changes once every two seconds.
    if (this.count % (this.calm.matches ? 50 : EVERY) === 0) this.draw();
    if (this.count % 50 === 0) this.#tell();
  }

  clear() {
    this.entries = [];
    this.draw();
    this.#tell();
  }

  draw() {
    const { canvas } = this;
    const ratio = devicePixelRatio;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!width) return; // nobody looks at it
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    const paper = canvas.getContext("2d");
    paper.setTransform(ratio, 0, 0, ratio, 0, 0);
    paper.clearRect(0, 0, width, height);
    const lane = height / 2;
    paper.fillStyle = colour("--line");
    paper.fillRect(0, lane - 0.5, width, 1);
    const across = (SECONDS / BLOCK / EVERY) | 0;
    const step = width / across;
    // Bars keep their entries while they move, or they would flicker: groups are counted from the beginning.
    const first = this.count - this.entries.length;
    const lastGroup = Math.floor((this.count - 1) / EVERY);
    for (let group = Math.ceil(first / EVERY); group <= lastGroup; group++) {
      const part = this.entries.slice(group * EVERY - first, (group + 1) * EVERY - first);
      const x = width - (lastGroup - group + 1) * step;
      this.#bar(
        paper,
        x,
        step,
        lane * 0.5,
        lane,
        part.map(({ you }) => you),
        part.some(({ youLoud }) => youLoud),
        colour("--ink"),
      );
      this.#bar(
        paper,
        x,
        step,
        lane * 1.5,
        lane,
        part.map(({ model }) => model),
        part.some(({ modelLoud }) => modelLoud),
        colour("--main"),
      );
      if (part.some(({ cut }) => cut)) {
        paper.fillStyle = colour("--warn");
        paper.fillRect(x, 2, 2, height - 4);
      }
    }
  }

  #bar(paper, x, step, middle, lane, levels, loud, colour) {
    const share = Math.max(0, Math.min(1, (Math.max(...levels) - QUIET) / -QUIET));
    const height = Math.max(1.5, share * lane * 0.86);
    paper.fillStyle = colour;
    paper.globalAlpha = loud ? 1 : 0.35;
    paper.fillRect(x, middle - height / 2, Math.max(1, step * 0.72), height);
    paper.globalAlpha = 1;
  }

  #tell() {
    const seconds = (key) => (this.entries.filter((entry) => entry[key]).length * BLOCK).toFixed(1);
    const n = this.entries.filter(({ cut }) => cut).length;
    const spoke = { you: seconds("youLoud"), model: seconds("modelLoud") };
    const told = say("whoSpoke", { seconds: Math.round(this.entries.length * BLOCK), ...spoke });
    this.words.textContent = this.entries.length ? `${told} ${n ? say("cuts", { n }) : ""}` : say("nothingSaid");
  }
}
