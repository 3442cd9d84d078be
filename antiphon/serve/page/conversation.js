// A conversation: what the server's events mean for what is played and shown, and what is sent because of it.
// It knows no DOM and no sound card: `line` plays, `show` shows.

import { fromBase64, fromPcm, RATE } from "./sound.js";
import { say } from "./words.js";

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
   * @param show {turn(turn), sounding(turn, word), speaking(who, yes), thinking(yes), latency(seconds), trouble(text),
   *   interrupted()}.
   * @param clock seconds, ever rising; `position` those of the recording, with which the text is to agree.
   * @param tools {definitions, run(name, arguments)}: what the model may call, see tools.js.
   */
  constructor(send, line, show, clock, position, tools = { definitions: [] }) {
    this.send = send;
    this.line = line;
    this.show = show;
    this.clock = clock;
    this.position = position;
    this.tools = tools;
    // {id, who: "you" | "model" | "tool", text, unsaid, note, status: "live" | "done" | "cut" | "gone"}, and
    // heard: what else was to be heard, [text]; at, until: its sound in the recording, seconds; until is null of what
    // has none; marks: [[seconds, letters of the text that were said by then]]; called: {name, given, result}.
    this.turns = [];
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
    this.received = new Map(); // item -> seconds of its sound that have come
    this.timed = new Set(); // items of which the server tells when each word is heard
    this.uttered = 0; // milliseconds of the microphone that were sent: the server's clock of this connection
    this.handFrom = null; // where a turn that is ended by hand began
    this.calls = []; // of functions, in the answer that is being made: what they will give
    this.playing = false; // the model is to be heard
    this.lastLoud = null; // when the user was last heard
    this.asked = null; // when the user's turn ended
    for (const turn of [...this.turns]) {
      if (turn.status === "live" || unheard.has(turn.id))
        this.#change(turn, turn.text ? { status: "cut", note: say("brokenOff") } : { status: "gone" });
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
  begin({ voice, detection, instructions, language }) {
    const input = { transcription: { model: this.session?.model ?? "default" } };
    if (language && !this.ownTurns) input.transcription.language = language;
    if (detection !== undefined && !this.ownTurns) input.turn_detection = detection;
    const audio = { input };
    if (voice) audio.output = { voice };
    const session = { type: "realtime", audio };
    if (!this.ownTurns) {
      // What is heard besides the words, and when each word of an answer is.
      session.include = ["item.input_audio_scene", "item.output_audio_words"];
      if (instructions) session.instructions = instructions;
      if (this.tools.definitions.length) session.tools = this.tools.definitions;
    }
    this.send({ type: "session.update", session });
    if (this.ownTurns) return;
    const said = this.turns.filter(({ who, text }) => text && who !== "tool");
    for (const turn of said.slice(-REMEMBERED)) {
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

  /** The user shows a picture, a data URL: what is said or typed next may be about it. `canvas` has it for the eye. */
  see(url, name, canvas = null) {
    const id = newId();
    this.#turn(id, "you", { note: say("shows", { name }), canvas, status: "done" });
    const item = { id, type: "message", role: "user", content: [{ type: "input_image", image_url: url }] };
    this.send({ type: "conversation.item.create", item });
  }

  /** The user begins a spoken turn by hand. */
  open() {
    this.handFrom = this.position();
  }

  /** The user says by hand that a spoken turn is over. */
  commit() {
    this.asked = this.lastLoud ?? this.clock();
    this.handUntil = this.position();
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
    this.calls = []; // whoever interrupts doesn't wait for what they give
    this.show.speaking("model", false);
    for (const id of unheard) {
      if (!this.cut.has(id)) continue; // its last sound had just left
      const turn = this.#find(id);
      const until = turn?.began && heard.get(id) ? turn.at + heard.get(id) / 1000 : null;
      if (turn) {
        this.show.sounding(turn, null);
        this.#change(turn, { status: "cut", note: say("interrupted"), until });
      }
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

  /** So many samples of the microphone were sent. */
  sent(samples) {
    this.uttered += (samples / RATE) * 1000;
  }

  /** So much of an item was heard: {item, seconds}. */
  sounding({ item, seconds }) {
    const turn = this.#find(item);
    if (turn && turn.who === "model") this.show.sounding(turn, soundingWord(turn, seconds));
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
    const turn = this.#find(id);
    if (turn) this.#change(turn, { at: this.position(), began: true });
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
    const turn = this.#find(id);
    if (turn?.began && turn.status !== "cut") this.#change(turn, { until: this.position() });
    if (turn) this.show.sounding(turn, null);
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
    this.#turn(event.item_id, "you", { at: this.#recorded(event.audio_start_ms) });
    if (this.session?.audio?.input?.turn_detection?.interrupt_response !== false) this.silence();
  }

  _speechStopped(event) {
    this.show.speaking("you", false);
    const turn = this.#find(event.item_id);
    if (turn) this.#change(turn, { until: this.#recorded(event.audio_end_ms) });
    if (this.ownTurns) return; // whether it will answer, only the model knows
    this.asked = this.lastLoud ?? this.clock();
    this.show.thinking(true);
  }

  _itemAdded({ item }) {
    if (item.role !== "user" || !item.content.some(({ type }) => type === "input_audio")) return;
    const byHand = this.handFrom === null ? {} : { at: this.handFrom, until: this.handUntil };
    this.handFrom = null;
    const turn = this.#turn(item.id, "you", byHand);
    if (this.session?.audio?.input && !this.session.audio.input.transcription)
      this.#change(turn, { status: "done", note: say("notWritten") });
  }

  _heard({ item_id, transcript }) {
    const turn = this.#turn(item_id, "you");
    // What was heard without a word isn't answered, but it can be asked about.
    this.#change(turn, transcript || turn.heard.length ? { text: transcript, note: "", status: "done" } : { status: "gone" });
    if (!transcript) this.show.thinking(false);
  }

  _scene({ item_id, noted }) {
    // "[sound: a dog barks] [the user laughs]", as the model reads it
    if (noted) this.#change(this.#turn(item_id, "you"), { heard: noted.slice(1, -1).split("] [") });
  }

  _hearing({ item_id, delta }) {
    const turn = this.#turn(item_id, "you");
    if (turn.status === "live") this.#change(turn, { text: turn.text + delta });
  }

  _unheard({ item_id, error }) {
    this.#change(this.#turn(item_id, "you"), { status: "gone" });
    this.show.thinking(false);
    this.show.trouble(say("notHeard", { why: error?.message ?? say("noReason") }));
  }

  _responseCreated({ response }) {
    this.response = response.id;
    this.show.thinking(true);
  }

  _text({ type, item_id, delta }) {
    if (this.cut.has(item_id)) return;
    if (type.includes("audio") && !this.sounded.has(item_id)) this.unheard.add(item_id);
    const turn = this.#turn(item_id, "model");
    // Where the server doesn't tell, a word is taken to begin with the sound that comes after it.
    const marks = this.timed.has(item_id) ? turn.marks : [...turn.marks, [this.received.get(item_id) ?? 0, turn.text.length]];
    this.#change(turn, { text: turn.text + delta, marks });
  }

  _words({ item_id, end_ms, letters }) {
    const turn = this.#find(item_id);
    if (!turn) return;
    if (!this.timed.has(item_id)) turn.marks = [];
    this.timed.add(item_id);
    const said = [...turn.text].slice(0, letters).join(""); // the server counts letters, not halves of them
    turn.marks.push([end_ms / 1000, said.length]);
  }

  _sound({ item_id, delta }) {
    if (this.cut.has(item_id)) return;
    this.unheard.add(item_id);
    this.sounded.add(item_id);
    const samples = fromPcm(fromBase64(delta));
    this.received.set(item_id, (this.received.get(item_id) ?? 0) + samples.length / RATE);
    this.line.play(item_id, samples);
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
    if (status === "failed") this.show.trouble(details?.error?.message ?? say("hasFailed"));
    for (const item of response.output) {
      const turn = this.#find(item.id);
      if (turn?.status === "live") this.#change(turn, { status: "done", note: NOTES[status] ? say(NOTES[status]) : "" });
    }
    if (status === "completed" && this.calls.length) this.#giveResults();
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

  _call({ call_id, name, arguments: given }) {
    const turn = this.#turn(call_id, "tool", { called: { name, given, result: null } });
    const found = Promise.resolve(this.tools.run(name, given)).then((result) => {
      this.#change(turn, { called: { name, given, result }, status: "done" });
      return { call_id, output: result };
    });
    this.calls.push(found);
  }

  /** The model is told what the functions gave that it called, and goes on. */
  async #giveResults() {
    const { calls } = this;
    const results = await Promise.all(calls);
    if (this.calls !== calls) return; // interrupted meanwhile
    this.calls = [];
    for (const result of results)
      this.send({ type: "conversation.item.create", item: { type: "function_call_output", ...result } });
    this.#ask();
  }

  /** Where in the recording is what the server, counting what we sent it, calls this moment. */
  #recorded(milliseconds) {
    const ago = Number.isFinite(milliseconds) ? Math.max(0, this.uttered - milliseconds) / 1000 : 0;
    return Math.max(0, this.position() - ago);
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
      const empty = { text: "", unsaid: "", note: "", heard: [], marks: [], until: null, status: "live" };
      turn = { id, who, ...empty, at: this.position(), ...more };
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

/** The word of a turn that sounds after so many seconds of it: [first letter, letter after the last]; null for none. */
export function soundingWord({ text, marks }, seconds) {
  if (marks.length === 0) return null;
  const said = marks.findLast(([at]) => at <= seconds)?.[1] ?? 0;
  const word = /\S+/.exec(text.slice(said));
  return word && [said + word.index, said + word.index + word[0].length];
}

const NOTES = { incomplete: "tooLong", cancelled: "interrupted", failed: "failed" };

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
  "response.output_audio_words.delta": "_words",
  "response.function_call_arguments.done": "_call",
  "response.output_audio.done": "_soundDone",
  "response.done": "_responseDone",
  error: "_error",
};
