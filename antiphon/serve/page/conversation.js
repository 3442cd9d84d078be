// A conversation: what the server's events mean for what is played and shown, and what is sent because of it.
// It knows no DOM and no sound card: `line` plays, `show` shows.

import { fromBase64, fromPcm } from "./sound.js";

const REMEMBERED = 20; // messages that a new connection is told, when the old one was lost
const MOST_WAIT = 1000; // milliseconds for the words of an answer that was stopped by leaving
const GOES_ON = 0.2; // seconds: who was loud so lately hasn't finished

let made = 0;

function newId() {
  made += 1;
  return `item_page${Date.now().toString(36)}${made}`;
}

export class Conversation {
  /**
   * @param send a function that takes a client event.
   * @param line {play, end, clear}, see line.js.
   * @param show {turn(turn), speaking(who, yes), thinking(yes), latency(seconds), trouble(text), interrupted()}.
   * @param clock seconds, ever rising; `position` those of the recording, with which the text is to agree.
   */
  constructor(send, line, show, clock, position) {
    this.send = send;
    this.line = line;
    this.show = show;
    this.clock = clock;
    this.position = position;
    this.turns = []; // {id, who, text, unsaid, note, at, status: "live" | "done" | "cut" | "gone"}
    this.reset();
  }

  /** A new connection: nothing is under way in it. */
  reset() {
    const unheard = this.unheard ?? new Set();
    this.session = null;
    this.response = null; // id of the one that is being made
    this.unheard = new Set(); // items of which the last sound hasn't left yet
    this.sounded = new Set(); // items of which some sound has come
    this.cut = new Set(); // items that were interrupted: what still comes of them is not played
    this.retrieving = new Set(); // of those, the ones whose words we have asked for, as far as they were heard
    this.retrieved = () => {}; // called when all of them have come
    this.playing = false; // the model is to be heard
    this.lastLoud = null; // when the user was last heard
    this.asked = null; // when the user's turn ended
    for (const turn of [...this.turns]) {
      if (turn.status === "live" || unheard.has(turn.id))
        this.#change(turn, turn.text ? { status: "cut", note: "broken off" } : { status: "gone" });
    }
  }

  /**
   * The model takes turns by itself, hearing all the time: it isn't asked for answers, goes on through a "mhm", and
   * reads no text. Its session says so.
   */
  get ownTurns() {
    const detection = this.session?.audio?.input?.turn_detection;
    return detection?.create_response === false && detection.interrupt_response === false;
  }

  /** Sets the session up, and tells it what was said on an earlier connection. */
  begin({ voice, detection }) {
    const input = { transcription: { model: this.session?.model ?? "default" } };
    if (detection !== undefined && !this.ownTurns) input.turn_detection = detection;
    const audio = { input };
    if (voice) audio.output = { voice };
    const session = { type: "realtime", audio };
    if (!this.ownTurns) session.include = ["item.input_audio_scene"]; // what is heard besides the words
    this.send({ type: "session.update", session });
    if (this.ownTurns) return;
    for (const turn of this.turns.filter(({ text }) => text).slice(-REMEMBERED)) {
      const kind = turn.who === "you" ? "input_text" : "output_text";
      const role = turn.who === "you" ? "user" : "assistant";
      turn.id = newId(); // the old one was the old connection's
      const item = { id: turn.id, type: "message", role, content: [{ type: kind, text: turn.text }] };
      this.send({ type: "conversation.item.create", item });
    }
  }

  /** The user has typed something. */
  async type(text) {
    await this.interrupt();
    const id = newId();
    this.asked = this.clock();
    this.#turn(id, "you", { text, status: "done" });
    const item = { id, type: "message", role: "user", content: [{ type: "input_text", text }] };
    this.send({ type: "conversation.item.create", item });
    this.#ask();
  }

  /** The user shows a picture, a data URL: what is said or typed next may be about it. */
  see(url, name) {
    const id = newId();
    this.#turn(id, "you", { note: `shows ${name}`, status: "done" });
    const item = { id, type: "message", role: "user", content: [{ type: "input_image", image_url: url }] };
    this.send({ type: "conversation.item.create", item });
  }

  /** The user says by hand that a spoken turn is over. */
  commit() {
    this.asked = this.lastLoud ?? this.clock();
    this.send({ type: "input_audio_buffer.commit" });
    this.#ask();
  }

  /** Stops the answer, here and in the server. */
  async interrupt() {
    if (this.response) this.send({ type: "response.cancel" });
    await this.silence();
  }

  /**
   * Stops what is being played, and tells the server how much of it was heard: what the user didn't hear, the model
   * must not believe to have said.
   */
  async silence() {
    const unheard = [...this.unheard];
    this.unheard.clear();
    unheard.forEach((id) => this.cut.add(id));
    this.playing = false;
    const heard = await this.line.clear();
    this.show.speaking("model", false);
    for (const id of unheard) {
      if (!this.cut.has(id)) continue; // its last sound had just left
      const turn = this.#find(id);
      if (turn) this.#change(turn, { status: "cut", note: "interrupted" });
      this.show.interrupted();
      this.send({
        type: "conversation.item.truncate",
        item_id: id,
        content_index: 0,
        audio_end_ms: heard.get(id) ?? 0,
      });
      this.send({ type: "conversation.item.retrieve", item_id: id }); // for its words, as far as they were heard
      this.retrieving.add(id);
    }
  }

  /** Before the connection is closed: stops the answer, and waits, not for long, for its words as they were heard. */
  async leave() {
    await this.interrupt();
    if (this.retrieving.size === 0) return;
    await new Promise((resolve) => {
      this.retrieved = resolve;
      setTimeout(resolve, MOST_WAIT);
    });
  }

  /** The microphone was loud just now. */
  loud() {
    if (!(this.ownTurns && this.playing)) this.lastLoud = this.clock();
  }

  /** The first sound of an item has left. */
  began(id, delay) {
    if (this.cut.has(id)) return;
    this.show.speaking("model", true);
    this.show.thinking(false);
    this.playing = true;
    if (this.ownTurns) {
      // It may also have said a word while the user goes on.
      if (this.lastLoud !== null && this.clock() - this.lastLoud > GOES_ON) this.asked = this.lastLoud;
      this.lastLoud = null;
    }
    if (this.asked !== null) this.show.latency(this.clock() + delay - this.asked);
    this.asked = null;
  }

  /** The last sound of an item has left. */
  finished(id) {
    this.unheard.delete(id);
    this.cut.delete(id);
    if (this.unheard.size > 0) return;
    this.playing = false;
    this.show.speaking("model", false);
  }

  /** Takes a server's event. */
  receive(event) {
    this[HANDLERS[event.type]]?.(event);
  }

  _session(event) {
    this.session = event.session;
  }

  _speechStarted(event) {
    this.show.speaking("you", true);
    this.#turn(event.item_id, "you");
    if (this.session?.audio?.input?.turn_detection?.interrupt_response !== false) this.silence();
  }

  _speechStopped() {
    this.show.speaking("you", false);
    if (this.ownTurns) return; // whether it will answer, only the model knows
    this.asked = this.lastLoud ?? this.clock();
    this.show.thinking(true);
  }

  _itemAdded({ item }) {
    if (item.role !== "user" || !item.content.some(({ type }) => type === "input_audio")) return;
    const turn = this.#turn(item.id, "you");
    if (this.session?.audio?.input && !this.session.audio.input.transcription)
      this.#change(turn, { status: "done", note: "spoken; not written down" });
  }

  _heard({ item_id, transcript }) {
    const turn = this.#turn(item_id, "you");
    // What was heard without a word isn't answered, but it can be asked about.
    this.#change(turn, transcript || turn.noted ? { text: transcript, status: "done" } : { status: "gone" });
    if (!transcript) this.show.thinking(false);
  }

  _scene({ item_id, noted }) {
    // "[sound: a dog barks] [the user laughs]", as the model reads it
    if (noted) this.#change(this.#turn(item_id, "you"), { noted: true, note: noted.slice(1, -1).replaceAll("] [", ", ") });
  }

  _hearing({ item_id, delta }) {
    const turn = this.#turn(item_id, "you");
    if (turn.status === "live") this.#change(turn, { text: turn.text + delta });
  }

  _unheard({ item_id, error }) {
    this.#change(this.#turn(item_id, "you"), { status: "gone" });
    this.show.thinking(false);
    this.show.trouble(`What you said couldn't be heard: ${error?.message ?? "no reason given"}`);
  }

  _responseCreated({ response }) {
    this.response = response.id;
    this.show.thinking(true);
  }

  _text({ type, item_id, delta }) {
    if (this.cut.has(item_id)) return;
    if (type.includes("audio") && !this.sounded.has(item_id)) this.unheard.add(item_id);
    const turn = this.#turn(item_id, "model");
    this.#change(turn, { text: turn.text + delta });
  }

  _sound({ item_id, delta }) {
    if (this.cut.has(item_id)) return;
    this.unheard.add(item_id);
    this.sounded.add(item_id);
    this.line.play(item_id, fromPcm(fromBase64(delta)));
  }

  _soundDone({ item_id }) {
    if (this.cut.has(item_id)) return;
    if (this.sounded.has(item_id)) this.line.end(item_id);
    else this.finished(item_id);
  }

  _responseDone({ response }) {
    if (this.response === response.id) this.response = null;
    this.show.thinking(false);
    const { status, status_details: details } = response;
    if (status === "failed") this.show.trouble(details?.error?.message ?? "The model has failed to answer.");
    for (const item of response.output) {
      const turn = this.#find(item.id);
      if (turn?.status === "live") this.#change(turn, { status: "done", note: NOTES[status] ?? "" });
    }
    // Cancelled by the server, for whatever reason: what was sent before isn't wanted either.
    if (status === "cancelled" && this.unheard.size) this.silence();
  }

  _retrieved({ item }) {
    const turn = this.#find(item.id);
    const said = item.content
      .map((part) => part.transcript ?? part.text ?? "")
      .join(" ")
      .trim();
    if (turn && turn.status === "cut") this.#change(turn, { text: said, unsaid: unsaid(turn.text, said) });
    this.retrieving.delete(item.id);
    if (this.retrieving.size === 0) this.retrieved();
  }

  _error({ error }) {
    // The answer had ended, or hadn't begun, when we cancelled it; or there was nothing of it to cut.
    if (QUIET.has(error.code)) return;
    this.show.thinking(false);
    this.show.trouble(error.message);
  }

  #ask() {
    this.show.thinking(true);
    this.send({ type: "response.create" });
  }

  #find(id) {
    return this.turns.find((turn) => turn.id === id);
  }

  /** The turn of an item, made if it isn't there. */
  #turn(id, who, more = {}) {
    let turn = this.#find(id);
    if (!turn) {
      turn = { id, who, text: "", unsaid: "", note: "", at: this.position(), status: "live", ...more };
      this.turns.push(turn);
      this.show.turn(turn);
    }
    return turn;
  }

  #change(turn, change) {
    Object.assign(turn, change);
    if (turn.status === "gone") this.turns.splice(this.turns.indexOf(turn), 1);
    this.show.turn(turn);
  }
}

/** What of a text was not said, given its beginning that was. */
export function unsaid(text, said) {
  return text.startsWith(said) ? text.slice(said.length).trim() : "";
}

const NOTES = { incomplete: "longer than it may be", cancelled: "interrupted", failed: "failed" };

const QUIET = new Set([
  "response_cancel_not_active",
  "item_truncate_invalid_item_id",
  "item_retrieve_invalid_item_id",
  "input_audio_buffer_commit_empty",
  "server_full", // these end the connection, which is told in better words
  "session_idle",
  "session_expired",
  "server_stopping",
]);

const HANDLERS = {
  "session.created": "_session",
  "session.updated": "_session",
  "input_audio_buffer.speech_started": "_speechStarted",
  "input_audio_buffer.speech_stopped": "_speechStopped",
  "conversation.item.added": "_itemAdded",
  "conversation.item.input_audio_scene.completed": "_scene",
  "conversation.item.input_audio_transcription.delta": "_hearing",
  "conversation.item.input_audio_transcription.completed": "_heard",
  "conversation.item.input_audio_transcription.failed": "_unheard",
  "conversation.item.retrieved": "_retrieved",
  "response.created": "_responseCreated",
  "response.output_text.delta": "_text",
  "response.output_audio_transcript.delta": "_text",
  "response.output_audio.delta": "_sound",
  "response.output_audio.done": "_soundDone",
  "response.done": "_responseDone",
  error: "_error",
};
