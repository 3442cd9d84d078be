// A conversation's connection: OpenAI's Realtime protocol over a WebSocket.

import { dial, whyRefused } from "./server.js";
import { endProblem } from "./problems.js";

const MOST_UNSENT = 400_000; // bytes, some six seconds of speech: nobody takes them any more

export class Realtime {
  /** @param on {event, ended}: functions for each event of the server, and for the Problem that ended it all. */
  constructor(on) {
    this.on = on;
    this.socket = null;
    this.last = ""; // code of the latest error
    this.patience = MOST_UNSENT;
  }

  /** Connects; resolves when the server greets. @throws Problem */
  open(model) {
    return new Promise((resolve, reject) => {
      const socket = dial(model);
      this.last = "";
      this.socket = socket;
      let opened = false;
      let greeted = false;
      socket.onopen = () => (opened = true);
      socket.onmessage = ({ data }) => {
        const event = JSON.parse(data);
        if (event.type === "error") this.last = event.error.code ?? "";
        if (event.type === "session.created") {
          greeted = true;
          resolve(event.session);
        }
        this.on.event(event);
      };
      socket.onclose = async ({ code }) => {
        if (this.socket !== socket) return; // we have left
        this.socket = null;
        if (greeted) this.on.ended(endProblem(code, this.last));
        else reject(opened ? endProblem(code, this.last) : await whyRefused());
      };
    });
  }

  get isOpen() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  send(event) {
    if (!this.isOpen) return;
    if (this.socket.bufferedAmount === 0) this.patience = MOST_UNSENT;
    if (this.socket.bufferedAmount > this.patience) {
      // The other side is gone, though nobody has said so; waiting for a timeout would take minutes.
      const socket = this.socket;
      this.socket = null;
      socket.close();
      this.on.ended(endProblem(1006, ""));
      return;
    }
    const text = JSON.stringify(event);
    if (event.type === "conversation.item.create") this.patience += text.length; // a picture takes its time
    this.socket.send(text);
  }

  close() {
    const socket = this.socket;
    this.socket = null;
    socket?.close(1000);
  }
}
