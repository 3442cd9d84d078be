// The words of both sides, as they come; the one that sounds is marked.

import { say } from "./words.js";
import { callText, clockText } from "./writing.js";

const NEAR = 80; // pixels from the end of the list that count as at its end
const SVG = "http://www.w3.org/2000/svg";

export class Transcript {
  /**
   * @param list an element with the role "log"; `changed` is told whether anything was said.
   * @param actions {play, copy, save}: functions of a turn, for its buttons.
   */
  constructor(list, actions, changed) {
    this.list = list;
    this.actions = actions;
    this.changed = changed;
    this.rows = new Map(); // turn -> its parts
    this.atEnd = true;
    // Marking a word changes no element, so that a screen reader isn't told of every one.
    this.marks = globalThis.CSS?.highlights ? { sounding: new Highlight(), coming: new Highlight() } : null;
    for (const [name, mark] of Object.entries(this.marks ?? {})) CSS.highlights.set(name, mark);
    list.addEventListener("scroll", () => (this.atEnd = this.#isAtEnd()), { passive: true });
    // The end stays in view whatever makes the list smaller: a keyboard, a turned telephone, the details.
    new ResizeObserver(() => this.#follow()).observe(list);
  }

  /** Shows a turn: a new one, or one that has changed. */
  turn(turn) {
    const { list } = this;
    if (turn.status === "gone") {
      this.rows.get(turn)?.row.remove();
      this.rows.delete(turn);
    } else {
      const parts = this.rows.get(turn) ?? this.#add(turn);
      parts.row.dataset.status = turn.status;
      const words = turn.called ? callText(turn.called) : turn.text;
      write(parts.text, words || (turn.status === "live" ? "…" : ""));
      write(parts.unsaid, turn.unsaid);
      write(parts.note, turn.note);
      write(parts.at, clockText(turn.at));
      parts.text.classList.toggle("waiting", !words);
      if (parts.heard.childElementCount !== turn.heard.length)
        parts.heard.replaceChildren(...turn.heard.map((each) => make("li", "", each.replace(/^sound: /, ""))));
      const over = turn.status !== "live";
      parts.play.hidden = !over || turn.until === null;
      parts.save.hidden = parts.play.hidden || turn.who !== "model";
      parts.copy.hidden = !over || !turn.text || turn.who !== "model";
    }
    this.changed(this.rows.size > 0);
    // A screen reader is to read turns, not every word anew while they grow.
    list.setAttribute("aria-busy", String([...this.rows.keys()].some(({ status }) => status === "live")));
    this.#follow();
  }

  /** Marks the word of a turn that sounds, [from, to) in its text, and what is still to come; null for none. */
  sounding(turn, word) {
    if (!this.marks) return;
    const letters = this.rows.get(turn)?.text.firstChild;
    for (const mark of Object.values(this.marks)) mark.clear();
    if (!letters || !word || word[1] > letters.length) return;
    this.marks.sounding.add(rangeOf(letters, ...word));
    this.marks.coming.add(rangeOf(letters, word[1], letters.length));
  }

  /** Shows which turn is being played again; null for none. */
  playing(turn) {
    for (const [each, { row }] of this.rows) row.toggleAttribute("data-playing", each === turn);
  }

  clear() {
    this.rows.clear();
    for (const mark of Object.values(this.marks ?? {})) mark.clear();
    this.list.replaceChildren();
    this.changed(false);
  }

  #isAtEnd() {
    const { list } = this;
    return list.scrollHeight - list.scrollTop - list.clientHeight < NEAR;
  }

  /** Only for who is at the end; who reads what was said before shall not be torn away. */
  #follow() {
    if (this.atEnd) this.list.scrollTop = this.list.scrollHeight;
  }

  #add(turn) {
    const row = make("div", `turn ${turn.who}`);
    const parts = {
      row,
      at: make("time", "at"),
      text: make("span", "text"),
      unsaid: make("s", "unsaid"),
      note: make("span", "note"),
      heard: make("ul", "heard"),
    };
    for (const [name, icon, label] of ACTIONS) {
      parts[name] = button(icon, say(label));
      parts[name].addEventListener("click", () => this.actions[name](turn));
    }
    const foot = make("div", "foot");
    foot.append(parts.at, parts.play, parts.copy, parts.save);
    parts.unsaid.setAttribute("aria-hidden", "true"); // it was never heard
    parts.heard.lang = parts.text.lang = ""; // whatever is spoken
    const said = make("p", "said");
    const who = { you: "you", model: "model", tool: "callsTool" }[turn.who];
    const name = make("span", "unseen name", `${say(who)}: `);
    said.dir = name.dir = "auto"; // the words have their own direction, which the name has no say in
    said.append(name, parts.text, " ", parts.unsaid, " ", parts.note);
    if (turn.canvas) {
      turn.canvas.className = "picture";
      turn.canvas.setAttribute("aria-hidden", "true"); // the note says what it is
      row.append(turn.canvas);
    }
    row.append(said, parts.heard, foot);
    this.list.append(row);
    this.rows.set(turn, parts);
    return parts;
  }
}

const ACTIONS = [
  ["play", "i-play", "playAgain"],
  ["copy", "i-copy", "copy"],
  ["save", "i-save", "saveThis"],
];

/** Changes a text, if it has changed: marks in it are lost with it. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function rangeOf(letters, from, to) {
  const range = new Range();
  range.setStart(letters, from);
  range.setEnd(letters, to);
  return range;
}

function make(tag, className, text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = text;
  return element;
}

function button(icon, label) {
  const element = make("button", "icon small");
  element.type = "button";
  element.ariaLabel = element.title = label;
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("aria-hidden", "true");
  picture.append(document.createElementNS(SVG, "use"));
  picture.firstChild.setAttribute("href", `#${icon}`);
  element.append(picture);
  return element;
}
