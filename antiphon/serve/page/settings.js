// What the user has chosen; kept for the next visit, except what the server may have changed meanwhile.

import { TOOL_NAMES } from "./tools.js";
import { languageName, say } from "./words.js";

const KEY = "antiphon-settings";

/** How turns end, as the server is told it; undefined leaves the server's own way. */
const DETECTION = { pause: undefined, words: { type: "semantic_vad" }, button: null };
const LOCKED = ["model", "voice", "language", "turns", "instructions", ...TOOL_NAMES];

export class Settings {
  /**
   * @param fields the controls: {model, voice, language, turns, instructions, microphone, volume, headphones, announce},
   *   and one for each tool; `changed` is told a name.
   */
  constructor(fields, changed) {
    this.fields = fields;
    this.voices = {};
    this.kept = read();
    const { kept } = this;
    if (kept.turns in DETECTION) fields.turns.value = kept.turns;
    fields.instructions.value = kept.instructions ?? "";
    fields.volume.value = kept.volume ?? 1;
    fields.headphones.checked = kept.headphones ?? false;
    fields.announce.checked = kept.announce ?? true;
    for (const name of TOOL_NAMES) fields[name].checked = kept.tools?.includes(name) ?? false;
    for (const [name, field] of Object.entries(fields)) {
      field.addEventListener(name === "volume" ? "input" : "change", () => {
        if (name === "model") this.#fillVoices();
        this.#keep();
        changed(name);
      });
    }
  }

  /** The server has these; see `offers`. */
  offer({ models, voices, languages, callsFunctions }) {
    const { fields, kept } = this;
    this.voices = voices;
    fill(fields.model, models, fields.model.value || kept.model);
    this.#fillVoices(fields.voice.value || kept.voice);
    const named = languages.map((code) => [code, languageName(code)]).sort(([, one], [, other]) => one.localeCompare(other));
    const any = named.length === 1 ? [] : [["", say("anyLanguage")]];
    const wanted = fields.language.value || kept.language;
    fields.language.replaceChildren(...[...any, ...named].map(([code, name]) => new Option(name, code)));
    if (languages.includes(wanted)) fields.language.value = wanted;
    this.callsFunctions = callsFunctions;
    this.lock(this.locked);
  }

  get model() {
    return this.fields.model.value;
  }

  get voice() {
    return this.fields.voice.value;
  }

  /** A code; "" for whatever is heard. */
  get language() {
    return this.fields.language.value;
  }

  get instructions() {
    return this.fields.instructions.value.trim();
  }

  /** Names of those that the model may call. */
  get tools() {
    return this.callsFunctions ? TOOL_NAMES.filter((name) => this.fields[name].checked) : [];
  }

  get detection() {
    return DETECTION[this.fields.turns.value];
  }

  /** The user says when a turn ends. */
  get byButton() {
    return this.fields.turns.value === "button";
  }

  get microphone() {
    return this.fields.microphone.value;
  }

  get volume() {
    return Number(this.fields.volume.value);
  }

  get headphones() {
    return this.fields.headphones.checked;
  }

  get announce() {
    return this.fields.announce.checked;
  }

  /** What the server is told when a conversation begins is settled while it lasts. */
  lock(locked) {
    this.locked = locked;
    for (const name of LOCKED) this.fields[name].disabled = locked;
    for (const name of TOOL_NAMES) this.fields[name].disabled = locked || !this.callsFunctions;
  }

  #fillVoices(wanted) {
    fill(this.fields.voice, this.voices[this.model] ?? [], wanted ?? this.voice);
  }

  #keep() {
    const { model, voice, language, instructions, microphone, volume, headphones, announce } = this;
    const tools = TOOL_NAMES.filter((name) => this.fields[name].checked);
    const turns = this.fields.turns.value;
    this.kept = { model, voice, language, instructions, microphone, volume, headphones, announce, tools, turns };
    try {
      localStorage.setItem(KEY, JSON.stringify(this.kept));
    } catch {
      // then it is chosen anew the next time
    }
  }
}

function read() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {}; // nothing was kept, or the browser keeps nothing
  }
}

function fill(select, names, wanted) {
  select.replaceChildren(...names.map((name) => new Option(name, name)));
  if (names.includes(wanted)) select.value = wanted;
}
