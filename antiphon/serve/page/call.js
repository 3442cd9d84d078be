// A call: the connection and the sound devices, from the first click to hanging up, and back when the line was lost.

import { Conversation } from "./conversation.js";
import { Line } from "./line.js";
import { microphoneProblem, soundProblem } from "./problems.js";
import { Realtime } from "./realtime.js";
import { toBase64 } from "./sound.js";
import { say } from "./words.js";

const AGAIN = [1, 2, 4, 8, 15, 15]; // seconds before each try to get a lost connection back

export class Call {
  /**
   * @param settings see settings.js; `tools` see tools.js; `position` the seconds that were recorded.
   * @param on {changed(), tell(problem, again), hush(), news(text), block(block), interrupted(), turn(turn),
   *   sounding(turn, word), latency(seconds)}: what is shown of it.
   */
  constructor(settings, tools, position, on) {
    this.settings = settings;
    this.on = on;
    this.phase = "idle"; // "idle", "connecting", "live" or "ending"
    this.since = null; // when it became live
    this.wantsMicrophone = false;
    this.muted = false;
    this.trying = false; // the microphone is listened to, and nobody is called
    this.speaking = { you: false, model: false, thinking: false };
    this.tries = 0;
    this.waitingToRetry = null;
    const { line, realtime, conversation } = this.#parts(tools, position);
    Object.assign(this, { line, realtime, conversation });
  }

  #parts(tools, position) {
    const { on, speaking } = this;
    const line = new Line({
      block: (block) => this.#block(block),
      began: (item) => conversation.began(item, line.delay),
      finished: (item) => conversation.finished(item),
      lost: () => {
        line.dropMicrophone();
        on.tell(microphoneProblem({ name: "LostError" }), () => this.takeMicrophone());
        on.changed();
      },
    });
    const realtime = new Realtime({
      event: (event) => conversation.receive(event),
      ended: (problem) => {
        if (this.phase === "ending") return; // we were about to
        if (problem.kind === "lost") this.#reconnect(problem);
        else this.end(problem);
      },
    });
    const show = {
      turn: on.turn,
      sounding: on.sounding,
      speaking: (who, yes) => {
        speaking[who] = yes;
        if (yes) speaking.thinking = false;
        on.changed();
      },
      thinking: (yes) => {
        speaking.thinking = yes;
        on.changed();
      },
      latency: on.latency,
      trouble: (message) => on.tell({ message, action: "" }),
      interrupted: on.interrupted,
    };
    const now = () => performance.now() / 1000;
    const conversation = new Conversation((event) => realtime.send(event), line, show, now, position, tools);
    return { line, realtime, conversation };
  }

  /** The user says when a turn ends; a model that takes turns by itself wants no telling. */
  get byButton() {
    return this.settings.byButton && !this.conversation.ownTurns;
  }

  get isLive() {
    return this.phase === "live";
  }

  get hasMicrophone() {
    return this.line.hasMicrophone && !this.trying;
  }

  /** What is going on, as the page shows it. */
  get state() {
    if (!this.isLive) return this.phase;
    const doing = ["you", "model", "thinking"].find((what) => this.speaking[what]);
    return doing ?? (this.hasMicrophone && !this.muted ? "listening" : "ready");
  }

  /** Begins a conversation, or adds the microphone to one that was only typed. Says whether there is one. */
  async start(withMicrophone) {
    if (this.phase === "connecting" || this.phase === "ending") return false;
    await this.endTrial();
    this.wantsMicrophone = this.wantsMicrophone || withMicrophone;
    if (this.isLive) {
      if (withMicrophone) await this.takeMicrophone();
      return true;
    }
    this.phase = "connecting";
    this.on.hush();
    this.on.changed();
    try {
      if (!this.line.node) await this.line.open();
    } catch (error) {
      await this.end(soundProblem(error));
      return false;
    }
    if (!(await this.#connect())) return false;
    if (this.wantsMicrophone) await this.takeMicrophone();
    return true;
  }

  async #connect() {
    const { settings, conversation } = this;
    try {
      conversation.reset();
      await this.realtime.open(settings.model);
    } catch (problem) {
      // A try to come back fails while the server is still starting; other refusals are final.
      if (this.tries > 0 && ["unreachable", "lost"].includes(problem.kind)) this.#reconnect(problem);
      else await this.end(problem);
      return false;
    }
    if (this.phase !== "connecting") {
      this.realtime.close(); // the user has changed their mind
      return false;
    }
    if (this.tries === 0) this.since = performance.now();
    this.tries = 0;
    this.phase = "live";
    this.on.hush();
    const { voice, detection, instructions, language } = settings;
    conversation.begin({ voice, detection, instructions, language });
    this.on.news(say("connected"));
    this.on.changed();
    return true;
  }

  /** The connection was lost: the line stays open, and another connection is tried for. */
  async #reconnect(problem) {
    this.phase = "connecting";
    Object.assign(this.speaking, { you: false, model: false, thinking: false });
    this.conversation.reset();
    this.line.clear();
    if (this.tries >= AGAIN.length) {
      await this.end(problem);
      return;
    }
    const seconds = AGAIN[this.tries];
    this.tries += 1;
    const again = () => {
      clearTimeout(this.waitingToRetry);
      this.#connect();
    };
    this.on.tell({ message: `${problem.message} ${say("tryingAgain", { seconds })}`, action: "retry" }, again);
    this.waitingToRetry = setTimeout(again, seconds * 1000);
    this.on.changed();
  }

  /** Ends the conversation; what was said stays, and can be saved or gone on with. */
  async end(problem) {
    if (this.phase === "ending") return;
    clearTimeout(this.waitingToRetry);
    const live = this.isLive;
    this.phase = "ending";
    this.on.changed();
    if (live && !problem) await this.conversation.leave();
    this.phase = "idle";
    this.tries = 0;
    this.since = null;
    const again = this.wantsMicrophone;
    this.wantsMicrophone = this.muted = false;
    Object.assign(this.speaking, { you: false, model: false, thinking: false });
    this.realtime.close();
    this.conversation.reset();
    await this.line.close();
    if (problem) this.on.tell(problem, () => this.start(again));
    else {
      this.on.hush();
      this.on.news(say("ended"));
    }
    this.on.changed();
  }

  /** Takes the microphone of the settings, for the call or to try it. */
  async takeMicrophone() {
    const { line, settings } = this;
    const had = line.hasMicrophone; // then only another one, or the headphones, were chosen
    if (!had) line.mute(this.byButton && !this.trying);
    try {
      await line.takeMicrophone(settings.headphones, settings.microphone);
    } catch (error) {
      this.on.tell(microphoneProblem(error), () => this.takeMicrophone());
      this.on.changed();
      return;
    }
    if (!this.trying && (this.phase === "idle" || this.phase === "ending")) {
      line.dropMicrophone(); // ended while the browser was asking
      return;
    }
    this.on.hush();
    if (this.trying) return;
    this.wantsMicrophone = true;
    this.setMuted(line.muted);
    if (!had) this.on.news(say(this.byButton ? "microphoneReady" : "microphoneOn"));
  }

  /** Listens to the microphone, without calling anybody. */
  async tryMicrophone() {
    if (this.phase !== "idle") return;
    this.trying = true;
    if (!this.line.node) await this.line.open();
    await this.takeMicrophone();
    if (!this.line.hasMicrophone) await this.endTrial();
    this.on.changed();
  }

  async endTrial() {
    if (!this.trying) return;
    this.trying = false;
    await this.line.close();
    this.on.changed();
  }

  /** In turns by hand, the microphone is muted but for the turn: then unmuting interrupts, and muting sends. */
  setMuted(yes) {
    this.muted = yes;
    this.line.mute(yes);
    this.on.changed();
  }

  toggleMute() {
    if (this.byButton) {
      if (this.muted) {
        this.conversation.interrupt();
        this.conversation.open();
      } else this.conversation.commit();
    }
    this.speaking.you = this.byButton && this.muted;
    this.setMuted(!this.muted);
  }

  #block(block) {
    const { microphone, sounding } = block;
    if (this.hasMicrophone && this.realtime.isOpen && this.isLive && !(this.byButton && this.muted)) {
      this.realtime.send({ type: "input_audio_buffer.append", audio: toBase64(microphone) });
      this.conversation.sent(microphone.length);
    }
    if (sounding) this.conversation.sounding(sounding);
    this.on.block(block);
  }
}
