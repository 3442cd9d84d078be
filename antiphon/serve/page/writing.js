// The words of a conversation, to be taken away: as text, and as subtitles of its sound.

import { say } from "./words.js";

const LONGEST = 76; // letters of one subtitle: two lines
const HOLD = 1.5; // seconds that a subtitle stays at least

/** Seconds -> "1:05". */
export function clockText(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

const name = (who) => say(who === "you" ? "you" : "model");

/** A call of a tool as one line. */
export function callText({ name, given, result }) {
  return `${name}(${given === "{}" ? "" : given})${result === null ? "" : ` → ${result}`}`;
}

/** The words of a conversation as plain text. */
export function asText(turns, model, when) {
  const lines = turns
    .filter(({ text, note, heard, called }) => text || note || heard.length || called)
    .map(({ who, text, at, note, heard, called }) => {
      const words = called ? callText(called) : text;
      const beside = [...heard, note].filter(Boolean).join(", ");
      const more = beside ? `${text ? (note ? " ... " : " ") : ""}(${beside})` : "";
      return `[${clockText(at)}] ${name(who)}: ${words}${more}`;
    });
  return [say("conversationWith", { model, when }), "", ...lines, ""].join("\n");
}

/** The same as subtitles (srt) for the saved sound: what was said aloud, where it is to be heard. */
export function asSubtitles(turns) {
  const cues = turns
    .filter(({ text, until }) => text && until !== null)
    .flatMap(cuesOf)
    .sort((one, other) => one.from - other.from);
  return cues
    .map(({ from, until, text }, i) => `${i + 1}\n${stamp(from)} --> ${stamp(until)}\n${text}\n`)
    .join("\n");
}

/** A turn in pieces that can be read at a glance, each with its time in the recording. */
function cuesOf({ who, text, at, until, marks }) {
  const pieces = [];
  for (const { 0: word, index } of text.matchAll(/\S+/g)) {
    const last = pieces.at(-1);
    if (last && index + word.length - last.from <= LONGEST && !/[.!?…]$/.test(text.slice(last.from, last.to)))
      last.to = index + word.length;
    else pieces.push({ from: index, to: index + word.length });
  }
  // Where no times are known, every letter takes as long as any other.
  const even = (letters) => at + ((until - at) * letters) / text.length;
  const timed = (letters) => marks.find(([, said]) => said >= letters)?.[0];
  const when = (letters) => Math.min(until, marks.length && timed(letters) !== undefined ? at + timed(letters) : even(letters));
  return pieces.map(({ from, to }, i) => {
    const begins = i === 0 ? at : when(pieces[i - 1].to);
    const ends = i === pieces.length - 1 ? Math.max(until, begins + HOLD) : when(to);
    return { from: begins, until: Math.max(ends, begins + 0.1), text: `${name(who)}: ${text.slice(from, to)}` };
  });
}

/** Seconds -> "00:01:05,250". */
function stamp(seconds) {
  const milliseconds = Math.round(Math.max(0, seconds) * 1000);
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes, whole] = [3_600_000, 60_000, 1000].map((unit) => Math.floor(milliseconds / unit));
  return `${two(hours)}:${two(minutes % 60)}:${two(whole % 60)},${String(milliseconds % 1000).padStart(3, "0")}`;
}
