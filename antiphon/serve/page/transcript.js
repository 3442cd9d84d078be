// The words of both sides, as they come.

import { clockText } from "./tape.js";

const NAMES = { you: "You", model: "Model" };

export class Transcript {
  /** @param list an <ol role="log">; `empty` is shown while nothing was said. */
  constructor(list, empty) {
    this.list = list;
    this.empty = empty;
    this.rows = new Map(); // turn -> its parts
  }

  /** Shows a turn: a new one, or one that has changed. */
  turn(turn) {
    const { list } = this;
    // Only follow for who is at the end; who reads what was said before shall not be torn away.
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
    if (turn.status === "gone") {
      this.rows.get(turn)?.row.remove();
      this.rows.delete(turn);
    } else {
      const parts = this.rows.get(turn) ?? this.#add(turn);
      parts.row.dataset.status = turn.status;
      parts.text.textContent = turn.text || (turn.status === "live" ? "…" : "");
      parts.unsaid.textContent = turn.unsaid;
      parts.note.textContent = turn.note && `(${turn.note})`;
      parts.text.classList.toggle("waiting", !turn.text);
    }
    this.empty.hidden = this.rows.size > 0;
    // A screen reader is to read turns, not every word anew while they grow.
    list.setAttribute("aria-busy", String([...this.rows.keys()].some(({ status }) => status === "live")));
    if (atEnd) list.scrollTop = list.scrollHeight;
  }

  clear() {
    this.rows.clear();
    this.list.replaceChildren();
    this.empty.hidden = false;
  }

  #add(turn) {
    const make = (tag, className, text = "") => {
      const element = document.createElement(tag);
      element.className = className;
      element.textContent = text;
      return element;
    };
    const row = make("li", `turn ${turn.who}`);
    const head = make("p", "who");
    head.append(make("span", "name", NAMES[turn.who]), make("time", "at", clockText(turn.at)));
    const said = make("p", "said");
    const parts = { row, text: make("span", "text"), unsaid: make("s", "unsaid"), note: make("span", "note") };
    parts.unsaid.setAttribute("aria-hidden", "true"); // it was never heard
    said.append(parts.text, " ", parts.unsaid, " ", parts.note);
    row.append(head, said);
    this.list.append(row);
    this.rows.set(turn, parts);
    return parts;
  }
}
