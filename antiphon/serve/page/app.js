// The page: its buttons, and the parts that they work.

import { Conversation } from "./conversation.js";
import { Line } from "./line.js";
import { Realtime } from "./realtime.js";
import { health, offers, setToken } from "./server.js";
import { Settings } from "./settings.js";
import { level, Loudness, toBase64 } from "./sound.js";
import { readPicture } from "./picture.js";
import { asText, save, Tape } from "./tape.js";
import { Timeline } from "./timeline.js";
import { Transcript } from "./transcript.js";
import { microphoneProblem, soundProblem } from "./words.js";

const AGAIN = [1, 2, 4, 8, 15, 15]; // seconds before each try to get a lost connection back
const ASK_EVERY = 5000; // milliseconds between two looks at the server's load
const MODEL_LOUD = -50; // decibels; its voice comes without noise

const at = (id) => document.getElementById(id);
const now = () => performance.now() / 1000;

const transcript = new Transcript(at("transcript"), at("empty"));
const timeline = new Timeline(at("timeline"), at("timeline-words"));
const settings = new Settings(
  {
    model: at("model"),
    voice: at("voice"),
    turns: at("turns"),
    headphones: at("headphones"),
    announce: at("announce"),
  },
  (name) => {
    if (name === "headphones" && line.hasMicrophone) takeMicrophone();
    if (name === "announce") applyAnnounce();
  },
);

let phase = "idle"; // "idle", "connecting", "live" or "ending"
let wantsMicrophone = false;
let muted = false;
let cutNow = false; // an answer was interrupted since the last block
let retry = null; // what "Try again" does
let waitingToRetry = null;
let tries = 0;
let tape = new Tape();
const speaking = { you: false, model: false, thinking: false };
const ears = new Loudness();

const line = new Line({
  block: onBlock,
  began: (item) => conversation.began(item, line.delay),
  finished: (item) => conversation.finished(item),
  lost: () => {
    line.dropMicrophone();
    tell(microphoneProblem({ name: "LostError" }));
    refresh();
  },
});

const realtime = new Realtime({
  event: (event) => conversation.receive(event),
  ended: (problem) => {
    if (phase === "ending") return; // we were about to
    if (problem.kind === "lost") reconnect(problem);
    else end(problem);
  },
});

const conversation = new Conversation(
  (event) => realtime.send(event),
  line,
  {
    turn: (turn) => {
      transcript.turn(turn);
      refresh();
    },
    speaking: (who, yes) => {
      speaking[who] = yes;
      if (yes) speaking.thinking = false;
      refresh();
    },
    thinking: (yes) => {
      speaking.thinking = yes;
      refresh();
    },
    latency: (seconds) => (at("latency").textContent = `${Math.max(0, seconds).toFixed(2)} s`),
    trouble: (text) => tell({ message: text, action: "" }),
    interrupted: () => (cutNow = true),
  },
  now,
  () => tape.seconds,
);

// Beginning and ending

/** Begins a conversation, or adds the microphone to one that was only typed. */
async function start(withMicrophone) {
  if (phase === "connecting" || phase === "ending") return false;
  wantsMicrophone = wantsMicrophone || withMicrophone;
  if (phase === "live") {
    if (withMicrophone) await takeMicrophone();
    return true;
  }
  phase = "connecting";
  hush();
  refresh();
  try {
    if (!line.node) await line.open();
  } catch (error) {
    await end(soundProblem(error));
    return false;
  }
  if (!(await connect())) return false;
  if (wantsMicrophone) await takeMicrophone();
  return true;
}

async function connect() {
  try {
    conversation.reset();
    await realtime.open(settings.model);
  } catch (problem) {
    // A try to come back fails while the server is still starting; other refusals are final.
    if (tries > 0 && ["unreachable", "lost"].includes(problem.kind)) reconnect(problem);
    else await end(problem);
    return false;
  }
  if (phase !== "connecting") {
    realtime.close(); // the user has changed their mind
    return false;
  }
  tries = 0;
  phase = "live";
  hush();
  conversation.begin({ voice: settings.voice, detection: settings.detection });
  news("Connected.");
  refresh();
  askHealth();
  return true;
}

/** The connection was lost: the line stays open, and another connection is tried for. */
async function reconnect(problem) {
  phase = "connecting";
  Object.assign(speaking, { you: false, model: false, thinking: false });
  conversation.reset();
  line.clear();
  if (tries >= AGAIN.length) {
    await end(problem);
    return;
  }
  const seconds = AGAIN[tries];
  tries += 1;
  tell({ message: `${problem.message} Trying again in ${seconds} s …`, action: "retry" }, () => {
    clearTimeout(waitingToRetry);
    connect();
  });
  waitingToRetry = setTimeout(connect, seconds * 1000);
  refresh();
}

/** Ends the conversation; what was said stays, and can be saved or gone on with. */
async function end(problem) {
  if (phase === "ending") return;
  clearTimeout(waitingToRetry);
  const live = phase === "live";
  phase = "ending";
  refresh();
  if (live && !problem) await conversation.leave();
  phase = "idle";
  tries = 0;
  const again = wantsMicrophone;
  wantsMicrophone = muted = false;
  Object.assign(speaking, { you: false, model: false, thinking: false });
  realtime.close();
  conversation.reset();
  await line.close();
  if (problem) tell(problem, () => start(again));
  else {
    hush();
    news("The conversation has ended.");
  }
  refresh();
  askHealth();
}

async function takeMicrophone() {
  const had = line.hasMicrophone; // then only the headphones have changed
  if (!had) line.mute(byButton());
  try {
    await line.takeMicrophone(settings.headphones);
  } catch (error) {
    tell(microphoneProblem(error), takeMicrophone);
    refresh();
    return;
  }
  if (phase === "idle" || phase === "ending") {
    line.dropMicrophone(); // ended while the browser was asking
    return;
  }
  wantsMicrophone = true;
  hush();
  setMuted(line.muted);
  if (had) return;
  news(byButton() ? "The microphone is ready. Press Speak." : "The microphone is on; you can talk.");
}

// Sound

function onBlock({ microphone, voice, waiting, gaps }) {
  tape.push(voice, microphone);
  const heard = line.hasMicrophone && !muted;
  if (line.hasMicrophone && realtime.isOpen && phase === "live" && !(byButton() && muted)) {
    realtime.send({ type: "input_audio_buffer.append", audio: toBase64(microphone) });
  }
  const you = heard ? level(microphone) : -100;
  const model = level(voice);
  const youLoud = heard && ears.step(you);
  if (youLoud) conversation.loud();
  timeline.push({ you, model, youLoud, modelLoud: model > MODEL_LOUD, cut: cutNow });
  cutNow = false;
  show("gaps", String(gaps));
  show("waiting", `${waiting.toFixed(1)} s`);
}

/** The user says when a turn ends; a model that takes turns by itself wants no telling. */
function byButton() {
  return settings.byButton && !conversation.ownTurns;
}

/** In turns by hand, the microphone is muted but for the turn: then unmuting interrupts, and muting sends. */
function setMuted(yes) {
  muted = yes;
  line.mute(yes);
  refresh();
}

function toggleMute() {
  if (byButton()) {
    if (muted) conversation.interrupt();
    else conversation.commit();
  }
  speaking.you = byButton() && muted;
  setMuted(!muted);
}

// What is shown

/** Changes a text, if it has changed: this is called many times a second. */
function show(id, text) {
  if (at(id).textContent !== text) at(id).textContent = text;
}

function refresh() {
  const live = phase === "live";
  const doing = ["you", "model", "thinking"].find((what) => speaking[what]);
  const state = live ? (doing ?? (line.hasMicrophone && !muted ? "listening" : "ready")) : phase;
  const names = {
    idle: "Not connected",
    connecting: "Connecting …",
    ending: "Ending …",
    ready: muted && !byButton() ? "Muted" : "Ready",
    listening: "Listening",
    you: "You speak",
    thinking: "Thinking …",
    model: "Speaking",
  };
  at("state").dataset.state = state;
  show("state", names[state]);
  const canStart = phase === "idle" || (live && !line.hasMicrophone);
  at("talk").toggleAttribute("data-live", !canStart);
  at("talk-label").textContent = canStart ? (live ? "Use the microphone" : "Start talking") : "End";
  enable("mute", live && line.hasMicrophone);
  at("mute").textContent = byButton() ? (muted ? "Speak" : "Done") : "Mute";
  at("mute").setAttribute("aria-pressed", String(byButton() ? !muted && !at("mute").disabled : muted));
  enable("stop", speaking.model || conversation.response !== null);
  const reads = !(live && conversation.ownTurns);
  at("typed").disabled = at("send").disabled = !reads;
  at("typed").placeholder = reads ? "Type a message" : "This model listens to speech alone";
  settings.lock(phase !== "idle");
  at("settings-help").hidden = phase === "idle"; // says why they can't be changed
  const said = conversation.turns.some(({ text }) => text);
  at("save-sound").disabled = tape.samples === 0;
  at("save-words").disabled = !said;
  at("forget").disabled = phase !== "idle" || (!said && tape.samples === 0);
}

/** Switches a button on or off; the focus isn't lost with it, and goes where a second press does nothing. */
function enable(id, yes) {
  if (!yes && document.activeElement === at(id)) at("transcript").focus();
  at(id).disabled = !yes;
}

/** Tells of a problem, with what can be done about it. */
function tell(problem, again = null) {
  retry = again;
  at("problem-text").textContent = problem.message;
  at("token-form").hidden = problem.action !== "token";
  at("problem-retry").hidden = again === null || problem.action === "token" || problem.action === "";
  at("problem").hidden = false;
  if (problem.action === "token") at("token").focus();
}

function hush() {
  at("problem").hidden = true;
}

/** For those who don't see the page change. */
function news(text) {
  at("news").textContent = text;
}

function applyAnnounce() {
  at("transcript").setAttribute("aria-live", settings.announce ? "polite" : "off");
}

async function askHealth() {
  try {
    const { sessions, capacity, load } = await health();
    at("sessions").textContent = `${sessions} of ${capacity}`;
    at("load").textContent = `${Math.round(load * 100)} %`;
  } catch {
    at("sessions").textContent = at("load").textContent = "–"; // a conversation that suffers from it says so itself
  }
}

async function askOffers() {
  try {
    const offered = await offers();
    settings.offer(offered);
    at("show").hidden = !offered.sees;
    hush();
  } catch (problem) {
    tell(problem, askOffers);
  }
  refresh();
  askHealth();
}

function fileName(ending) {
  const when = new Date();
  const two = (number) => String(number).padStart(2, "0");
  const date = `${when.getFullYear()}-${two(when.getMonth() + 1)}-${two(when.getDate())}`;
  return `conversation-${date}-${two(when.getHours())}${two(when.getMinutes())}.${ending}`;
}

// The controls

at("talk").addEventListener("click", () => {
  if (phase === "idle" || (phase === "live" && !line.hasMicrophone)) start(true);
  else end();
});
at("mute").addEventListener("click", toggleMute);
at("stop").addEventListener("click", () => conversation.interrupt());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !at("stop").disabled) conversation.interrupt();
});
at("type-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = at("typed").value.trim();
  if (!text || !(await start(false))) return; // what was typed stays until it can be sent
  if (conversation.ownTurns) {
    tell({ message: "This model listens to speech alone. Talk to it with the microphone.", action: "" });
    return;
  }
  at("typed").value = "";
  await conversation.type(text);
});
at("show").addEventListener("click", () => at("picture").click());
at("picture").addEventListener("change", async () => {
  const [file] = at("picture").files;
  if (!file) return;
  try {
    const url = await readPicture(file);
    if (await start(false)) conversation.see(url, file.name);
  } catch {
    tell({ message: `${file.name} is no picture that this browser can read.`, action: "" });
  }
  at("picture").value = ""; // the same one may be shown again
});
at("token-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  setToken(at("token").value.trim());
  at("token").value = "";
  await askOffers();
});
at("problem-retry").addEventListener("click", () => {
  hush();
  retry?.();
});
at("problem-close").addEventListener("click", () => {
  hush();
  at("talk").focus(); // or the focus would be lost with the button
});
at("save-sound").addEventListener("click", () => save(tape.wav(), fileName("wav")));
at("save-words").addEventListener("click", () => {
  const text = asText(conversation.turns, settings.model, new Date().toLocaleString());
  save(new Blob([text], { type: "text/plain" }), fileName("txt"));
});
at("forget").addEventListener("click", () => {
  conversation.turns.length = 0;
  tape = new Tape();
  transcript.clear();
  timeline.clear();
  news("The conversation is forgotten.");
  refresh();
  at("talk").focus();
});
addEventListener("offline", () => phase === "live" && news("This machine is offline."));

applyAnnounce();
askOffers();
setInterval(() => document.hidden || askHealth(), ASK_EVERY);
