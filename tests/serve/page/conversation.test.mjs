// What the page makes of the server's events. Run by tests/serve/test_page.py, beside a copy of the page's modules.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Conversation, soundingWord } from "./conversation.js";
import { endProblem, microphoneProblem } from "./problems.js";
import { toBase64 } from "./sound.js";
import { asText } from "./writing.js";

const SOUND = toBase64(new Int16Array(1920));

/** A conversation with everything it does written down. */
function begin(tools) {
  const sent = [];
  const done = [];
  let heard = new Map();
  let time = 0;
  let recorded = 0;
  const line = {
    play: (item, samples) => done.push(["play", item, samples.length]),
    end: (item) => done.push(["end", item]),
    clear: async () => (done.push(["clear"]), heard),
  };
  const show = new Proxy(
    {},
    {
      get:
        (_, name) =>
        (...args) =>
          done.push([name, ...args]),
    },
  );
  const talk = new Conversation(
    (event) => sent.push(event),
    line,
    show,
    () => time,
    () => recorded,
    tools,
  );
  talk.receive({
    type: "session.created",
    session: { model: "mini", audio: { input: { turn_detection: { interrupt_response: true } } } },
  });
  const does = (name) => done.filter(([what]) => what === name);
  return {
    talk,
    sent,
    done,
    does,
    hear: (map) => (heard = map),
    wait: (seconds) => (time += seconds),
    record: (seconds) => (recorded = seconds),
    types: () => sent.map(({ type }) => type),
  };
}

function answer(talk, id = "i1", response = "r1", words = "Rome is the capital") {
  talk.receive({ type: "response.created", response: { id: response } });
  talk.receive({ type: "response.output_audio_transcript.delta", item_id: id, delta: words });
  talk.receive({ type: "response.output_audio.delta", item_id: id, delta: SOUND });
}

const settled = () => new Promise((resolve) => setTimeout(resolve));

test("a spoken question and its answer", () => {
  const { talk, does, wait } = begin();
  talk.receive({ type: "input_audio_buffer.speech_started", item_id: "u1" });
  talk.loud();
  wait(0.5);
  talk.receive({ type: "input_audio_buffer.speech_stopped", item_id: "u1" });
  talk.receive({ type: "conversation.item.input_audio_transcription.delta", item_id: "u1", delta: "what is" });
  talk.receive({
    type: "conversation.item.input_audio_transcription.completed",
    item_id: "u1",
    transcript: "what is it",
  });
  answer(talk);
  wait(0.25);
  talk.began("i1", 0.02);
  talk.receive({ type: "response.output_audio.done", item_id: "i1" });
  talk.receive({ type: "response.done", response: { id: "r1", status: "completed", output: [{ id: "i1" }] } });
  assert.deepEqual(
    talk.turns.map(({ who, text, status }) => [who, text, status]),
    [
      ["you", "what is it", "done"],
      ["model", "Rome is the capital", "done"],
    ],
  );
  assert.ok(Math.abs(does("latency")[0][1] - 0.77) < 1e-9); // from the last loud moment, to the ear
  assert.deepEqual(does("play"), [["play", "i1", 1920]]);
  assert.deepEqual(does("end"), [["end", "i1"]]);
  assert.equal(talk.response, null);
});

test("interrupted by voice: silence at once, and the server is told what was really heard", async () => {
  const { talk, sent, does, hear } = begin();
  answer(talk);
  hear(new Map([["i1", 320]]));
  talk.receive({ type: "input_audio_buffer.speech_started", item_id: "u2" });
  assert.equal(does("clear").length, 1); // before anything else is waited for
  talk.receive({ type: "response.output_audio.delta", item_id: "i1", delta: SOUND }); // was on its way
  assert.equal(does("play").length, 1);
  await settled();
  assert.deepEqual(sent, [
    { type: "conversation.item.truncate", item_id: "i1", content_index: 0, audio_end_ms: 320 },
    { type: "conversation.item.retrieve", item_id: "i1" },
  ]);
  talk.receive({ type: "conversation.item.retrieved", item: { id: "i1", content: [{ transcript: "Rome is" }] } });
  const turn = talk.turns.find(({ id }) => id === "i1");
  assert.deepEqual([turn.text, turn.unsaid, turn.status], ["Rome is", "the capital", "cut"]);
  assert.equal(does("sounding").at(-1)[2], null); // no word is marked any more
  assert.equal(does("interrupted").length, 1);
});

test("words of which no sound was heard yet are taken back as well", async () => {
  const { talk, sent } = begin();
  talk.receive({ type: "response.created", response: { id: "r1" } });
  talk.receive({ type: "response.output_audio_transcript.delta", item_id: "i1", delta: "Rome" });
  talk.receive({ type: "input_audio_buffer.speech_started", item_id: "u2" });
  await settled();
  assert.equal(sent[0].audio_end_ms, 0);
});

test("an answer that was heard to its end isn't truncated by the next turn", async () => {
  const { talk, sent } = begin();
  answer(talk);
  talk.finished("i1");
  talk.receive({ type: "input_audio_buffer.speech_started", item_id: "u2" });
  await settled();
  assert.deepEqual(sent, []);
});

test("a model that takes turns by itself isn't silenced by speech, but by its own cancelling", async () => {
  const { talk, does } = begin();
  talk.receive({
    type: "session.updated",
    session: { audio: { input: { turn_detection: { interrupt_response: false } } } },
  });
  answer(talk);
  talk.receive({ type: "input_audio_buffer.speech_started", item_id: "u2" });
  await settled();
  assert.equal(does("clear").length, 0);
  talk.receive({ type: "response.done", response: { id: "r1", status: "cancelled", output: [{ id: "i1" }] } });
  await settled();
  assert.equal(does("clear").length, 1);
});

const OWN_TURNS = {
  model: "mini-duplex",
  audio: { input: { turn_detection: { create_response: false, interrupt_response: false }, transcription: null } },
};

test("a model that takes turns by itself is told neither how they end nor what was said before", () => {
  const { talk, sent, does, wait } = begin();
  talk.receive({ type: "conversation.item.input_audio_transcription.completed", item_id: "u0", transcript: "hello" });
  talk.reset();
  talk.receive({ type: "session.created", session: OWN_TURNS });
  assert.ok(talk.ownTurns);
  talk.begin({ voice: "heart", detection: { type: "semantic_vad" } });
  assert.deepEqual(
    sent.map(({ type, session }) => [type, session.audio.input.turn_detection]),
    [["session.update", undefined]],
  );
  talk.receive({ type: "input_audio_buffer.speech_started", item_id: "u1" });
  talk.loud();
  talk.receive({ type: "input_audio_buffer.speech_stopped", item_id: "u1" });
  assert.equal(does("thinking").length, 0); // it may not answer
  const item = { id: "u1", role: "user", content: [{ type: "input_audio", transcript: null }] };
  talk.receive({ type: "conversation.item.added", item });
  assert.deepEqual([talk.turns[1].status, talk.turns[1].text], ["done", ""]);
  assert.match(talk.turns[1].note, /not written down/);
  wait(0.6);
  answer(talk);
  talk.began("i1", 0);
  assert.ok(Math.abs(does("latency")[0][1] - 0.6) < 1e-9);
  talk.loud(); // a "mhm"
  talk.finished("i1");
  wait(5);
  answer(talk, "i2", "r2");
  talk.began("i2", 0);
  assert.equal(does("latency").length, 1); // nobody had asked
});

test("who leaves takes along what was heard, and not the rest", async () => {
  const { talk, types, hear } = begin();
  answer(talk);
  talk.receive({ type: "response.done", response: { id: "r1", status: "completed", output: [{ id: "i1" }] } });
  hear(new Map([["i1", 320]]));
  let left = false;
  const leaving = talk.leave().then(() => (left = true));
  await settled();
  assert.deepEqual(types(), ["conversation.item.truncate", "conversation.item.retrieve"]);
  assert.ok(!left);
  talk.receive({ type: "conversation.item.retrieved", item: { id: "i1", content: [{ transcript: "Rome is" }] } });
  await leaving;
  talk.reset();
  const [{ text, unsaid, note }] = talk.turns;
  assert.deepEqual([text, unsaid, note], ["Rome is", "the capital", "interrupted"]);
});

test("an answer that ended in the moment of the interruption was heard", async () => {
  const { talk, sent } = begin();
  answer(talk);
  talk.receive({ type: "response.done", response: { id: "r1", status: "completed", output: [{ id: "i1" }] } });
  talk.receive({ type: "input_audio_buffer.speech_started", item_id: "u2" });
  talk.finished("i1"); // told before what was left is cleared
  await settled();
  assert.deepEqual([sent, talk.turns[0].status], [[], "done"]);
});

test("what a lost connection leaves unheard is marked, though it had been sent to its end", () => {
  const { talk } = begin();
  answer(talk);
  talk.receive({ type: "response.done", response: { id: "r1", status: "completed", output: [{ id: "i1" }] } });
  talk.reset();
  assert.deepEqual([talk.turns[0].status, talk.turns[0].note], ["cut", "broken off"]);
});

test("typing interrupts, in an order that the server understands", async () => {
  const { talk, types } = begin();
  answer(talk);
  await talk.type("And Spain?");
  assert.deepEqual(types(), [
    "response.cancel",
    "conversation.item.truncate",
    "conversation.item.retrieve",
    "conversation.item.create",
    "response.create",
  ]);
});

test("nothing understood leaves no empty turn; a failure is told", () => {
  const { talk, does } = begin();
  talk.receive({ type: "input_audio_buffer.speech_started", item_id: "u1" });
  talk.receive({ type: "conversation.item.input_audio_transcription.completed", item_id: "u1", transcript: "" });
  assert.equal(talk.turns.length, 0);
  talk.receive({ type: "input_audio_buffer.speech_started", item_id: "u2" });
  talk.receive({
    type: "conversation.item.input_audio_transcription.failed",
    item_id: "u2",
    error: { message: "noise" },
  });
  assert.match(does("trouble")[0][1], /noise/);
  talk.receive({
    type: "response.done",
    response: { id: "r", status: "failed", output: [], status_details: { error: { message: "broke" } } },
  });
  assert.equal(does("trouble")[1][1], "broke");
  talk.receive({ type: "error", error: { code: "response_cancel_not_active", message: "no" } });
  assert.equal(does("trouble").length, 2);
});

test("a new connection is told what was said, as far as it was heard", () => {
  const { talk, sent } = begin();
  talk.receive({ type: "conversation.item.input_audio_transcription.completed", item_id: "u1", transcript: "hello" });
  answer(talk);
  talk.reset();
  talk.receive({ type: "session.created", session: { model: "mini" } });
  talk.begin({ voice: "heart", detection: null });
  const { session } = sent[0];
  assert.deepEqual(session.audio, {
    input: { transcription: { model: "mini" }, turn_detection: null },
    output: { voice: "heart" },
  });
  assert.deepEqual(
    sent.slice(1).map(({ item }) => [item.role, item.content[0]]),
    [
      ["user", { type: "input_text", text: "hello" }],
      ["assistant", { type: "output_text", text: "Rome is the capital" }],
    ],
  );
});

test("whatever the server says, known or not, is taken", () => {
  const { talk } = begin();
  for (const type of ["rate_limits.updated", "constructor", "toString", "x"]) talk.receive({ type });
});

test("plain words for what is wrong", () => {
  assert.match(endProblem(1013, "").message, /full/);
  assert.match(endProblem(1013, "server_full").message, /full/);
  assert.equal(endProblem(1006, "").kind, "lost");
  assert.equal(endProblem(1001, "session_idle").kind, "idle");
  for (const name of ["InsecureError", "NotAllowedError", "NotFoundError", "NotReadableError", "LostError", "Odd"]) {
    assert.match(microphoneProblem({ name }).message, /microphone.*type/is);
  }
});

test("what is heard besides the words stands beside them", () => {
  const { talk } = begin();
  const item = { id: "u1", role: "user", content: [{ type: "input_audio" }] };
  talk.receive({ type: "conversation.item.added", item });
  const noted = "[sound: a dog barks] [the user laughs]";
  talk.receive({ type: "conversation.item.input_audio_scene.completed", item_id: "u1", noted });
  const done = "conversation.item.input_audio_transcription.completed";
  talk.receive({ type: done, item_id: "u1", transcript: "Listen." });
  const [turn] = talk.turns;
  assert.deepEqual([turn.text, turn.note, turn.status], ["Listen.", "", "done"]);
  assert.deepEqual(turn.heard, ["sound: a dog barks", "the user laughs"]);
  assert.match(asText(talk.turns, "mini", "today"), /You: Listen. \(sound: a dog barks, the user laughs\)/);
});

test("a sound without words stays, a silence doesn't", () => {
  const { talk } = begin();
  for (const [id, noted] of [["u1", "[sound: a dog barks]"], ["u2", ""]]) {
    talk.receive({ type: "conversation.item.added", item: { id, role: "user", content: [{ type: "input_audio" }] } });
    talk.receive({ type: "conversation.item.input_audio_scene.completed", item_id: id, noted });
    talk.receive({ type: "conversation.item.input_audio_transcription.completed", item_id: id, transcript: "" });
  }
  assert.deepEqual(talk.turns.map(({ heard }) => heard), [["sound: a dog barks"]]);
});

test("a picture is an item of its own, and asks for nothing", () => {
  const { talk, sent, types } = begin();
  talk.see("data:image/jpeg;base64,AAAA", "cat.png");
  assert.deepEqual(types(), ["conversation.item.create"]);
  assert.deepEqual(sent[0].item.content, [{ type: "input_image", image_url: "data:image/jpeg;base64,AAAA" }]);
  const [turn] = talk.turns;
  assert.deepEqual([turn.who, turn.text, turn.note, turn.status], ["you", "", "shows cat.png", "done"]);
  assert.match(asText(talk.turns, "omni", "today"), /You: \(shows cat.png\)/);
});

test("a turn that isn't written down stays as one that was spoken", () => {
  const { talk } = begin();
  talk.receive({ type: "session.updated", session: { audio: { input: { transcription: null } } } });
  talk.receive({ type: "input_audio_buffer.speech_started", item_id: "u1" });
  talk.receive({ type: "conversation.item.added", item: { id: "u1", role: "user", content: [{ type: "input_audio" }] } });
  assert.deepEqual(talk.turns.map(({ note }) => note), ["spoken; not written down"]);
});

test("the word that sounds: told by the server, or taken from when the words came", () => {
  const { talk, does } = begin();
  answer(talk, "i1", "r1", "Rome is");
  talk.receive({ type: "response.output_audio_transcript.delta", item_id: "i1", delta: " the capital" });
  const [turn] = talk.turns;
  const word = (seconds) => turn.text.slice(...soundingWord(turn, seconds));
  assert.deepEqual([word(0), word(0.079), word(0.08)], ["Rome", "Rome", "the"]); // 80 ms had come before "the"
  const told = (letters, end_ms) =>
    talk.receive({ type: "response.output_audio_words.delta", item_id: "i1", letters, end_ms });
  told(4, 240);
  told(7, 480);
  assert.deepEqual([0, 0.239, 0.24, 0.5].map(word), ["Rome", "Rome", "is", "the"]);
  told(19, 900);
  assert.equal(soundingWord(turn, 1), null); // all is said
  talk.sounding({ item: "i1", seconds: 0.3 });
  assert.deepEqual(does("sounding").at(-1).slice(1), [turn, [5, 7]]);
  talk.finished("i1");
  assert.equal(does("sounding").at(-1)[2], null);
});

test("letters are the server's, not halves of them", () => {
  const { talk } = begin();
  answer(talk, "i1", "r1", "😀😀 two words");
  talk.receive({ type: "response.output_audio_words.delta", item_id: "i1", letters: 2, end_ms: 100 });
  const [turn] = talk.turns;
  assert.equal(turn.text.slice(...soundingWord(turn, 0.1)), "two");
});

test("where a turn lies in the recording", async () => {
  const { talk, record, hear } = begin();
  record(10);
  talk.sent(24000 * 4); // the connection began 6 s into it
  talk.receive({ type: "input_audio_buffer.speech_started", item_id: "u1", audio_start_ms: 3500 });
  talk.sent(24000);
  record(11);
  talk.receive({ type: "input_audio_buffer.speech_stopped", item_id: "u1", audio_end_ms: 4700 });
  record(12);
  answer(talk);
  talk.began("i1", 0);
  record(13);
  talk.finished("i1");
  answer(talk, "i2", "r2");
  talk.began("i2", 0);
  hear(new Map([["i2", 400]]));
  await talk.interrupt();
  assert.deepEqual(
    talk.turns.map(({ at, until }) => [at, until].map((seconds) => Number(seconds.toFixed(3)))),
    [
      [9.5, 10.7],
      [12, 13],
      [13, 13.4],
    ],
  );
});

test("by hand, too", () => {
  const { talk, record } = begin();
  record(2);
  talk.open();
  record(5);
  talk.commit();
  talk.receive({ type: "conversation.item.added", item: { id: "u1", role: "user", content: [{ type: "input_audio" }] } });
  assert.deepEqual([talk.turns[0].at, talk.turns[0].until], [2, 5]);
});

const TOOLS = {
  definitions: [{ type: "function", name: "clock" }],
  run: (name, given) => `${name} ${given}`,
};
const CALLED = { type: "response.function_call_arguments.done", item_id: "c1", call_id: "call1", name: "clock", arguments: "{}" };

test("a tool is called, shown, and the model goes on with what it gave", async () => {
  const { talk, sent } = begin(TOOLS);
  talk.begin({ voice: "heart", detection: null, instructions: "Be brief.", language: "en" });
  const { session } = sent.splice(0)[0];
  assert.deepEqual([session.instructions, session.tools], ["Be brief.", TOOLS.definitions]);
  assert.equal(session.audio.input.transcription.language, "en");
  talk.receive({ type: "response.created", response: { id: "r1" } });
  talk.receive(CALLED);
  await settled();
  assert.deepEqual(sent, []); // the answer isn't complete
  talk.receive({ type: "response.done", response: { id: "r1", status: "completed", output: [] } });
  await settled();
  assert.deepEqual(sent, [
    { type: "conversation.item.create", item: { type: "function_call_output", call_id: "call1", output: "clock {}" } },
    { type: "response.create" },
  ]);
  const [turn] = talk.turns;
  assert.deepEqual([turn.who, turn.called.result, turn.status], ["tool", "clock {}", "done"]);
  talk.reset();
  talk.receive({ type: "session.created", session: { model: "mini" } });
  talk.begin({ voice: "heart", detection: null });
  assert.deepEqual(sent.slice(2).map(({ type }) => type), ["session.update"]); // calls aren't told again
});

test("who interrupts doesn't wait for a tool", async () => {
  const { talk, types } = begin(TOOLS);
  talk.receive({ type: "response.created", response: { id: "r1" } });
  talk.receive(CALLED);
  talk.receive({ type: "response.done", response: { id: "r1", status: "completed", output: [] } });
  talk.silence();
  await settled();
  assert.deepEqual(types(), []);
});
