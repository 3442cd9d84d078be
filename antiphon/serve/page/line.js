// The page's end of the telephone line: audio context, microphone, loudspeaker.

import { RATE } from "./sound.js";

const MOST_WAIT = 8000; // milliseconds for the loudspeaker: browsers wait for one that isn't there without end

export class Line {
  /**
   * @param on {block, began, finished, lost}: functions for 40 ms of both sides (and what of which item was heard), for an item whose first sample has
   *   left and for one whose last has, and for a microphone that went away.
   */
  constructor(on) {
    this.on = on;
    this.context = null;
    this.node = null;
    this.stream = null;
    this.source = null;
    this.muted = false;
    this.volume = 1;
    this.clearing = [];
  }

  /**
   * Opens the loudspeaker. To be called from a click or a key, or browsers keep it silent.
   * @throws what the browser throws, or an Error named "NoLoudspeakerError" where nothing is played.
   */
  async open(settings = { sampleRate: RATE }) {
    const context = new AudioContext({ ...settings, latencyHint: "interactive" });
    this.context = context;
    await context.audioWorklet.addModule(new URL("line-processor.js", import.meta.url));
    const node = new AudioWorkletNode(context, "line", { numberOfInputs: 1, outputChannelCount: [1] });
    node.port.onmessage = ({ data }) => this.#told(data);
    this.gain = new GainNode(context, { gain: this.volume });
    node.connect(this.gain).connect(context.destination);
    this.node = node;
    if (context.state === "suspended") await Promise.race([context.resume(), tooLate()]);
  }

  /**
   * Takes the microphone.
   * @param headphones nothing of the loudspeaker comes back, so the browser need not (and shouldn't) take it out.
   * @param device the id of one of them; "" for the system's.
   * @throws DOMException of getUserMedia, or an Error named "InsecureError" where there is none.
   */
  async takeMicrophone(headphones, device = "") {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw Object.assign(new Error("no media devices"), { name: "InsecureError" });
    }
    const audio = {
      channelCount: 1,
      echoCancellation: !headphones,
      noiseSuppression: !headphones,
      autoGainControl: true,
    };
    if (device) audio.deviceId = { ideal: device }; // another one where it is gone
    const stream = await navigator.mediaDevices.getUserMedia({ audio });
    this.dropMicrophone();
    this.stream = stream;
    this.mute(this.muted); // before anything of it is heard
    stream.getAudioTracks()[0].onended = () => this.on.lost();
    try {
      this.source = this.context.createMediaStreamSource(stream);
    } catch {
      // Firefox connects a microphone only to a context of its own rate: all of the line runs at that, then.
      await this.#closeContext();
      await this.open({});
      this.source = this.context.createMediaStreamSource(stream);
    }
    this.source.connect(this.node);
  }

  dropMicrophone() {
    this.source?.disconnect();
    this.stream?.getTracks().forEach((track) => {
      track.onended = null;
      track.stop();
    });
    this.source = this.stream = null;
  }

  get hasMicrophone() {
    return this.stream !== null;
  }

  /** A muted microphone sends silence: the server's clock goes on, and a turn that was cut off ends. */
  mute(muted) {
    this.muted = muted;
    this.stream?.getAudioTracks().forEach((track) => (track.enabled = !muted));
  }

  /** How loud the model's voice is, 0 to 1. */
  setVolume(volume) {
    this.volume = volume;
    if (this.node) this.gain.gain.setTargetAtTime(volume, this.context.currentTime, 0.02); // or it would click
  }

  /** Seconds from the processor to the ear, as far as the browser knows. */
  get delay() {
    return (this.context?.outputLatency || this.context?.baseLatency) ?? 0;
  }

  play(item, samples) {
    this.node.port.postMessage({ kind: "push", item, samples }, [samples.buffer]);
  }

  end(item) {
    this.node.port.postMessage({ kind: "end", item });
  }

  /** Silence, at once. Resolves to Map(item -> milliseconds of it that were really heard), for unfinished ones. */
  clear() {
    if (!this.node) return Promise.resolve(new Map());
    return new Promise((resolve) => {
      this.clearing.push(resolve);
      this.node.port.postMessage({ kind: "clear" });
    });
  }

  async close() {
    this.dropMicrophone();
    await this.#closeContext();
  }

  async #closeContext() {
    this.node?.port.postMessage({ kind: "close" });
    this.node?.disconnect();
    this.node = null;
    for (const resolve of this.clearing.splice(0)) resolve(new Map());
    const context = this.context;
    this.context = null;
    if (context && context.state !== "closed") await context.close();
  }

  #told(data) {
    if (data.kind === "block") {
      const { sounding } = data;
      const seconds = sounding && sounding.samples / RATE - this.delay;
      this.on.block({ ...data, sounding: sounding && { item: sounding.item, seconds } });
    }
    else if (data.kind === "cleared") {
      // What has left the processor in the last moments is still on its way to the ear, and won't be understood.
      const late = this.delay * 1000;
      const heard = new Map();
      for (const [item, samples] of data.heard) {
        heard.set(item, Math.max(0, Math.floor((samples / RATE) * 1000 - late)));
      }
      this.clearing.shift()?.(heard);
    } else this.on[data.kind](data.item);
  }
}

function tooLate() {
  const error = Object.assign(new Error("nothing is played"), { name: "NoLoudspeakerError" });
  return new Promise((_, reject) => setTimeout(() => reject(error), MOST_WAIT));
}
