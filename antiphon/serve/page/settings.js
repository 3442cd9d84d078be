// What the user has chosen; kept for the next visit, except what the server may have changed meanwhile.

const KEY = "antiphon-settings";

/** How turns end, as the server is told it; undefined leaves the server's own way. */
const DETECTION = { pause: undefined, words: { type: "semantic_vad" }, button: null };

export class Settings {
  /** @param fields the controls: {model, voice, turns, headphones, announce}; `changed` is told a name. */
  constructor(fields, changed) {
    this.fields = fields;
    this.voices = {};
    const kept = this.#kept();
    if (kept.turns in DETECTION) fields.turns.value = kept.turns;
    fields.headphones.checked = kept.headphones ?? false;
    fields.announce.checked = kept.announce ?? true;
    for (const [name, field] of Object.entries(fields)) {
      field.addEventListener("change", () => {
        if (name === "model") this.#fillVoices();
        this.#keep();
        changed(name);
      });
    }
  }

  /** The server has these; see `offers`. */
  offer({ models, voices }) {
    this.voices = voices;
    const kept = this.#kept();
    fill(this.fields.model, models, this.fields.model.value || kept.model);
    this.#fillVoices(this.fields.voice.value || kept.voice);
  }

  get model() {
    return this.fields.model.value;
  }

  get voice() {
    return this.fields.voice.value;
  }

  get detection() {
    return DETECTION[this.fields.turns.value];
  }

  /** The user says when a turn ends. */
  get byButton() {
    return this.fields.turns.value === "button";
  }

  get headphones() {
    return this.fields.headphones.checked;
  }

  get announce() {
    return this.fields.announce.checked;
  }

  /** Model, voice and turns are settled while a conversation lasts. */
  lock(locked) {
    for (const name of ["model", "voice", "turns"]) this.fields[name].disabled = locked;
  }

  #fillVoices(wanted) {
    fill(this.fields.voice, this.voices[this.model] ?? [], wanted ?? this.voice);
  }

  #kept() {
    try {
      return JSON.parse(localStorage.getItem(KEY)) ?? {};
    } catch {
      return {}; // nothing was kept, or the browser keeps nothing
    }
  }

  #keep() {
    const { model, voice, headphones, announce } = this;
    try {
      localStorage.setItem(KEY, JSON.stringify({ model, voice, headphones, announce, turns: this.fields.turns.value }));
    } catch {
      // then it is chosen anew the next time
    }
  }
}

function fill(select, names, wanted) {
  select.replaceChildren(...names.map((name) => new Option(name, name)));
  if (names.includes(wanted)) select.value = wanted;
}
