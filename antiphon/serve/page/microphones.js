// Which microphone, and how much it hears.

import { say } from "./words.js";

const QUIET = -60; // decibels that are shown as nothing

export class Microphones {
  /** @param select of the microphones, `meter` of their level; `kept` the id of the one that was chosen. */
  constructor(select, meter, kept) {
    this.select = select;
    this.meter = meter;
    this.kept = kept;
    this.show([]);
    this.look();
    navigator.mediaDevices?.addEventListener?.("devicechange", () => this.look());
  }

  /** Asks the browser what there is: it tells names only when it has lent a microphone once. */
  async look() {
    try {
      const devices = await navigator.mediaDevices.enumerateDevices();
      this.show(devices.filter(({ kind, deviceId }) => kind === "audioinput" && deviceId && deviceId !== "default"));
    } catch {
      // then it is the system's
    }
  }

  show(devices) {
    const names = devices.map(({ label, deviceId }, i) => [deviceId, label || say("microphoneNumber", { n: i + 1 })]);
    const wanted = this.select.value || this.kept;
    this.select.replaceChildren(...[["", say("systemMicrophone")], ...names].map(([id, name]) => new Option(name, id)));
    this.select.value = names.some(([id]) => id === wanted) ? wanted : "";
  }

  /** The level of the last block, in decibels. */
  hear(decibels) {
    const level = Math.max(0, Math.min(1, (decibels - QUIET) / -QUIET));
    this.meter.value = Math.max(level, this.meter.value * 0.85);
  }
}
