// What went wrong, in words that say what to do about it.

import { say } from "./words.js";

/** Something that the user is told: a sentence or two, and what a button may do: "retry", "token" or nothing. */
export class Problem extends Error {
  constructor(kind, message, action = "") {
    super(message);
    this.kind = kind;
    this.action = action;
  }
}

const MICROPHONE = {
  InsecureError: ["insecure", "insecure", ""],
  NotAllowedError: ["refused", "microphoneRefused", "microphone"],
  SecurityError: ["refused", "microphoneRefused", "microphone"],
  NotFoundError: ["no-microphone", "noMicrophone", "microphone"],
  OverconstrainedError: ["no-microphone", "noMicrophone", "microphone"],
  NotReadableError: ["busy-microphone", "busyMicrophone", "microphone"],
  AbortError: ["busy-microphone", "busyMicrophone", "microphone"],
  LostError: ["lost-microphone", "lostMicrophone", "microphone"],
};

/** Why there is no microphone. */
export function microphoneProblem(error) {
  const [kind, text, action] = MICROPHONE[error?.name] ?? ["microphone", "oddMicrophone", "microphone"];
  return new Problem(kind, `${say(text, { why: error?.name ?? error })} ${say("typeMeanwhile")}`, action);
}

/** Why there is no camera. */
export function cameraProblem(error) {
  return new Problem("camera", say("noCamera", { why: error?.name ?? error }));
}

/** Why there is no sound at all. */
export function soundProblem(error) {
  if (error?.name === "NoLoudspeakerError") return new Problem("no-loudspeaker", say("noLoudspeaker"), "retry");
  return new Problem("sound", say("noSound", { why: error?.name ?? error }));
}

const ENDED = {
  server_full: ["full", "serverFull"],
  session_idle: ["idle", "sessionIdle"],
  session_expired: ["expired", "sessionExpired"],
  server_stopping: ["stopping", "serverStopping"],
};
const CLOSED = {
  1013: ["full", "serverFull"],
  1008: ["policy", "tooMuch"],
  1009: ["policy", "tooLarge"],
  1011: ["failed", "serverFailed"],
};

/**
 * Why a connection ended that was there.
 * @param code of the WebSocket's close, `last` the code of the server's last error.
 * @returns a Problem; its kind is "lost" where trying again by itself makes sense.
 */
export function endProblem(code, last) {
  const [kind, text] = (last in ENDED ? ENDED[last] : CLOSED[code]) ?? ["lost", "connectionLost"];
  return new Problem(kind, say(text), "retry");
}

/** Why the server couldn't be asked, from its answer to a question by HTTP; null if it could. */
export async function refusal(response) {
  if (response.ok) return null;
  if (response.status === 401) return new Problem("token", say("needsToken"), "token");
  let said = "";
  try {
    said = (await response.json()).error.message;
  } catch {
    // not one of the server's own answers
  }
  if (response.status === 503) return new Problem("full", say("serverFull"), "retry");
  return new Problem("refused", say("refuses", { why: said || say("status", { status: response.status }) }), "retry");
}

export function unreachable() {
  return new Problem("unreachable", say("unreachable"), "retry");
}
