// The page: what it shows of a call, and its buttons.

import { Call } from "./call.js";
import { Camera } from "./camera.js";
import { soundingWord } from "./conversation.js";
import { Microphones } from "./microphones.js";
import { readPicture } from "./picture.js";
import { cameraProblem } from "./problems.js";
import { Replay } from "./replay.js";
import { health, offers, setToken } from "./server.js";
import { Settings } from "./settings.js";
import { bands, level, Loudness } from "./sound.js";
import { save, Tape, wavOf } from "./tape.js";
import { Timeline } from "./timeline.js";
import { TOOL_NAMES, Tools } from "./tools.js";
import { Transcript } from "./transcript.js";
import { Voice } from "./voice.js";
import { language, languageName, say, translate } from "./words.js";
import { asSubtitles, asText, clockText } from "./writing.js";

const ASK_EVERY = 5000; // milliseconds between two looks at the server's load
const MODEL_LOUD = -50; // decibels; its voice comes without noise
const SHOW_CUT = 1500; // milliseconds that the page says "interrupted"
const NAMED_LANGUAGES = 3; // of those that a model understands; of more it says so

const at = (id) => document.getElementById(id);

translate(document);

const voice = new Voice(at("living"));
const timeline = new Timeline(at("timeline"), at("timeline-words"));
const ears = new Loudness();
const transcript = new Transcript(at("transcript"), { play: playTurn, copy: copyTurn, save: saveTurn }, (said) => {
  at("empty").hidden = said;
  document.body.toggleAttribute("data-empty", !said);
});
const settings = new Settings(
  {
    ...Object.fromEntries(
      ["model", "voice", "language", "turns", "instructions", "microphone", "volume", "headphones", "announce"].map(
        (name) => [name, at(name)],
      ),
    ),
    ...Object.fromEntries(TOOL_NAMES.map((name) => [name, at(`tool-${name}`)])),
  },
  (name) => {
    if (["headphones", "microphone"].includes(name) && call.line.hasMicrophone) call.takeMicrophone();
    if (name === "volume") call.line.setVolume(settings.volume);
    if (name === "announce") applyAnnounce();
    if (name === "model") at("model-name").textContent = settings.model;
    if (TOOL_NAMES.includes(name)) showAbout();
  },
);
const microphones = new Microphones(at("microphone"), at("meter"), settings.kept.microphone);
const tools = new Tools(() => settings.tools);

let offered = null; // see `offers`
let tape = new Tape();
let cutNow = false; // an answer was interrupted since the last block
let cutAt = -Infinity;
let retry = null; // what "Try again" does
let replayed = null; // the turn that is played again

const replay = new Replay(replaying, () => {
  transcript.sounding(replayed, null);
  replayed = null;
  transcript.playing(null);
  call.line.mute(call.muted);
  refresh();
});

const call = new Call(settings, tools, () => tape.seconds, {
  changed: refresh,
  tell,
  hush,
  news,
  block: onBlock,
  turn: (turn) => {
    transcript.turn(turn);
    refresh();
  },
  sounding: (turn, word) => transcript.sounding(turn, word),
  latency: (seconds) => show("latency", say("seconds", { seconds: Math.max(0, seconds).toFixed(2) })),
  interrupted: () => {
    cutNow = true;
    cutAt = performance.now();
    voice.break();
    refresh();
    setTimeout(refresh, SHOW_CUT);
  },
});
call.line.setVolume(settings.volume);
const { conversation } = call;

// Sound

function onBlock({ microphone, voice: spoken, waiting, gaps }) {
  const decibels = level(microphone);
  if (call.line.hasMicrophone && at("settings").open) microphones.hear(decibels);
  if (call.trying) return;
  tape.push(spoken, microphone);
  const heard = call.hasMicrophone && !call.muted;
  const you = heard ? decibels : -100;
  const model = level(spoken);
  const youLoud = heard && ears.step(you);
  const modelLoud = model > MODEL_LOUD;
  if (youLoud) conversation.loud();
  if (youLoud) voice.hear("you", bands(microphone));
  if (modelLoud) voice.hear("model", bands(spoken));
  timeline.push({ you, model, youLoud, modelLoud, cut: cutNow });
  cutNow = false;
  show("gaps", String(gaps));
  show("waiting", say("seconds", { seconds: waiting.toFixed(1) }));
  show("clock", call.since ? clockText((performance.now() - call.since) / 1000) : "");
}

function replaying(samples, seconds) {
  if (samples.length && replayed) voice.hear(replayed.who, bands(samples));
  if (replayed?.who === "model") transcript.sounding(replayed, soundingWord(replayed, seconds));
}

// What is shown

/** Changes a text, if it has changed: this is called many times a second. */
function show(id, text) {
  if (at(id).textContent !== text) at(id).textContent = text;
}

const STATES = {
  ready: "ready",
  listening: "listening",
  you: "hearing",
  thinking: "thinking",
  model: "speaking",
  idle: "idle",
  connecting: "connecting",
  ending: "ending",
};

function refresh() {
  const { phase, state, byButton, muted } = call;
  const live = call.isLive;
  const cut = live && performance.now() - cutAt < SHOW_CUT && state !== "model";
  at("state").dataset.state = state;
  document.body.dataset.state = phase;
  const text = state === "ready" && muted && !byButton ? "muted" : STATES[state];
  show("state-text", say(replayed ? "replaying" : cut ? "interruptedState" : text));
  at("state").toggleAttribute("data-cut", cut);
  voice.show(replayed ? replayed.who : text === "muted" ? "muted" : state);
  if (!live) show("clock", "");

  const said = conversation.turns.length > 0;
  const canStart = phase === "idle" || (live && !call.hasMicrophone);
  enable("talk", canStart, at("begin"));
  at("talk").className = live ? "round" : "main";
  show("talk-label", say(live ? "microphone" : said ? "goOn" : "startTalking"));
  show("talk-help", phase === "idle" && said ? say("goOnHelp") : "");
  enable("mute", live && call.hasMicrophone);
  const speaks = byButton && !muted;
  show("mute-label", say(byButton ? (muted ? "speak" : "done") : muted ? "unmute" : "mute"));
  at("mute-icon").setAttribute("href", muted && !byButton ? "#i-mic-off" : "#i-mic");
  at("mute").setAttribute("aria-pressed", String(byButton ? speaks && live : muted));
  at("mute").classList.toggle("by-hand", byButton);
  enable("end", phase === "live" || phase === "connecting");
  at("stop").hidden = !live;
  const stops = call.speaking.model || conversation.response !== null;
  if (!stops && document.activeElement === at("stop")) at("transcript").focus();
  at("stop").disabled = !stops;

  const reads = !(live ? conversation.ownTurns : offered?.duplex);
  at("typed").disabled = at("send").disabled = !reads;
  at("typed").placeholder = say(reads ? "typeMessage" : "speechAlone");
  settings.lock(phase !== "idle");
  at("settings-help").hidden = phase === "idle"; // says why they can't be changed
  at("try-microphone").hidden = phase !== "idle";
  show("try-microphone", say(call.trying ? "endTry" : "tryMicrophone"));
  const words = conversation.turns.some(({ text }) => text);
  at("save-sound").disabled = tape.samples === 0;
  at("save-words").disabled = at("copy-words").disabled = !words;
  at("save-subtitles").disabled = !conversation.turns.some(({ text, until }) => text && until !== null);
  enable("new", phase === "idle" && said, at("again"));
  at("open-save").disabled = !words && tape.samples === 0;
}

/** Shows a button or hides it, `place` with it; the focus isn't lost, and goes where a second press does nothing. */
function enable(id, yes, place = at(id)) {
  if (!yes && document.activeElement === at(id)) at("transcript").focus();
  place.hidden = !yes;
}

/** What this model can do, and questions to begin with. */
function showAbout() {
  if (!offered) return;
  const { languages, sees, duplex } = offered;
  const named = new Intl.ListFormat(language, { type: "unit" }).format(
    languages.slice(0, NAMED_LANGUAGES).map(languageName),
  );
  const about = [say(duplex ? "aboutDuplex" : "aboutHears")];
  if (sees) about.push(say("aboutSees"));
  if (settings.tools.length) about.push(say("aboutTools"));
  if (languages.length)
    about.push(say(languages.length > NAMED_LANGUAGES ? "aboutLanguages" : "aboutLanguage", { languages: named }));
  at("about").textContent = about.join(" ");
  at("examples-title").textContent = say(duplex ? "trySaying" : "tryAsking");
  const questions = [sees ? "exampleSees" : "example1", "example2", settings.tools.length ? "exampleTools" : "example3"];
  at("examples").replaceChildren(...questions.map((name) => example(name, duplex)));
}

function example(name, duplex) {
  const row = document.createElement("li");
  const question = document.createElement(duplex ? "q" : "button");
  question.textContent = say(name);
  if (!duplex) {
    question.type = "button";
    question.addEventListener("click", () => (name === "exampleSees" ? at("picture").click() : ask(say(name))));
  }
  row.append(question);
  return row;
}

/** Tells of a problem, or of something that was done, with what can be done about it. */
function tell(problem, again = null) {
  retry = again;
  at("problem-text").textContent = problem.message;
  at("problem").toggleAttribute("data-calm", problem.action === "undo");
  at("token-form").hidden = problem.action !== "token";
  at("problem-retry").hidden = again === null || problem.action === "token" || problem.action === "";
  at("problem-retry").textContent = say(problem.action === "undo" ? "undo" : "tryAgain");
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
    at("sessions").textContent = say("ofCapacity", { live: sessions, capacity });
    at("load").textContent = `${Math.round(load * 100)} %`;
  } catch {
    at("sessions").textContent = at("load").textContent = "–"; // a conversation that suffers from it says so itself
  }
}

async function askOffers() {
  try {
    offered = await offers();
    settings.offer(offered);
    at("model-name").textContent = settings.model;
    at("show").hidden = at("open-camera").hidden = !offered.sees;
    at("tools-none").hidden = offered.callsFunctions;
    showAbout();
    hush();
  } catch (problem) {
    tell(problem, askOffers);
  }
  refresh();
  askHealth();
}

// Keeping what was said

function fileName(ending) {
  const when = new Date();
  const two = (number) => String(number).padStart(2, "0");
  const date = `${when.getFullYear()}-${two(when.getMonth() + 1)}-${two(when.getDate())}`;
  return `conversation-${date}-${two(when.getHours())}${two(when.getMinutes())}${ending}`;
}

const written = () => asText(conversation.turns, settings.model, new Date().toLocaleString(language));

function saveText(text, ending) {
  save(new Blob([text], { type: "text/plain" }), fileName(ending));
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    news(say("copied"));
  } catch {
    tell({ message: say("notCopied"), action: "" });
  }
}

async function playTurn(turn) {
  const again = replayed !== turn;
  replay.stop();
  if (!again) return;
  if (call.speaking.model) await conversation.interrupt();
  if (call.hasMicrophone) call.line.mute(true); // or it would hear itself
  replayed = turn;
  const samples = await tape.slice(turn.who, turn.at, turn.until);
  await replay.play(samples, settings.volume);
  transcript.playing(turn);
  refresh();
}

function copyTurn(turn) {
  copy(turn.text);
}

async function saveTurn(turn) {
  const samples = await tape.slice(turn.who, turn.at, turn.until);
  save(wavOf(samples), fileName(`-${clockText(turn.at).replace(":", ".")}.wav`));
}

/** Everything that was said is forgotten, unless it is taken back. */
function forget() {
  replay.stop();
  const turns = conversation.turns.splice(0);
  const recorded = tape;
  tape = new Tape();
  transcript.clear();
  timeline.clear();
  tell({ message: say("forgotten"), action: "undo" }, () => {
    conversation.turns.unshift(...turns);
    tape = recorded;
    transcript.clear();
    for (const turn of conversation.turns) transcript.turn(turn);
    refresh();
  });
  refresh();
  at("talk").focus();
}

// The controls

async function ask(text) {
  if (!text || !(await call.start(false))) return false; // what was typed stays until it can be sent
  if (conversation.ownTurns) {
    tell({ message: say("speechAloneHelp"), action: "" });
    return false;
  }
  replay.stop();
  await conversation.type(text);
  return true;
}

async function showPicture(read, name) {
  const { url, canvas } = await read;
  if (await call.start(false)) conversation.see(url, name, canvas);
  at("typed").focus();
}

const camera = new Camera(
  { dialog: at("camera"), video: at("viewfinder"), button: at("take-picture") },
  (picture) => showPicture(picture, say("cameraPicture")),
);

function talk() {
  replay.stop();
  call.start(true);
}

at("talk").addEventListener("click", talk);
at("living").addEventListener("click", () => {
  if (call.phase === "idle") talk(); // as a touch on a face would
});
at("end").addEventListener("click", () => call.end());
at("mute").addEventListener("click", () => call.toggleMute());
at("stop").addEventListener("click", () => conversation.interrupt());
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open], :popover-open")) return;
  if (replay.isPlaying) replay.stop();
  else if (!at("stop").disabled) conversation.interrupt();
});
at("type-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = at("typed").value.trim();
  if ((await ask(text)) && at("typed").value.trim() === text) at("typed").value = "";
});
at("show").addEventListener("click", () => at("picture").click());
at("picture").addEventListener("change", async () => {
  const [file] = at("picture").files;
  if (!file) return;
  try {
    await showPicture(readPicture(file), file.name);
  } catch {
    tell({ message: say("noPicture", { name: file.name }), action: "" });
  }
  at("picture").value = ""; // the same one may be shown again
});
at("open-camera").addEventListener("click", async () => {
  try {
    await camera.open();
  } catch (error) {
    tell(cameraProblem(error));
  }
});
at("close-camera").addEventListener("click", () => at("camera").close());
at("open-settings").addEventListener("click", () => {
  at("settings").showModal();
  at("settings").scrollTop = 0;
});
at("close-settings").addEventListener("click", () => at("settings").close());
at("settings").addEventListener("close", () => call.endTrial());
at("try-microphone").addEventListener("click", async () => {
  if (call.trying) await call.endTrial();
  else await call.tryMicrophone();
  microphones.look();
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
  (at("begin").hidden ? at("transcript") : at("talk")).focus(); // or the focus would be lost with the button
});
at("save-sound").addEventListener("click", () => save(tape.wav(), fileName(".wav")));
at("save-words").addEventListener("click", () => saveText(written(), ".txt"));
at("save-subtitles").addEventListener("click", () => saveText(asSubtitles(conversation.turns), ".srt"));
at("copy-words").addEventListener("click", () => copy(written()));
at("new").addEventListener("click", forget);
addEventListener("offline", () => call.isLive && news(say("offline")));

applyAnnounce();
askOffers();
setInterval(() => document.hidden || askHealth(), ASK_EVERY);
