// What went wrong, in words that say what to do about it.

/** Something that the user is told: a sentence or two, and what a button may do: "retry", "token" or nothing. */
export class Problem extends Error {
  constructor(kind, message, action = "") {
    super(message);
    this.kind = kind;
    this.action = action;
  }
}

const TYPE_MEANWHILE = "You can still type, and hear the answers.";

/** Why there is no microphone. */
export function microphoneProblem(error) {
  switch (error?.name) {
    case "InsecureError":
      return new Problem(
        "insecure",
        "Browsers lend the microphone only to pages from this machine or over https. Open this page as " +
          `http://localhost, or let the server use a certificate. ${TYPE_MEANWHILE}`,
      );
    case "NotAllowedError":
    case "SecurityError":
      return new Problem(
        "refused",
        "The microphone was refused. Allow it for this page, by the sign beside the address, and try again. " +
          TYPE_MEANWHILE,
        "microphone",
      );
    case "NotFoundError":
    case "OverconstrainedError":
      return new Problem(
        "no-microphone",
        `No microphone was found. Plug one in and try again. ${TYPE_MEANWHILE}`,
        "microphone",
      );
    case "NotReadableError":
    case "AbortError":
      return new Problem(
        "busy-microphone",
        `The microphone can't be used; perhaps another program has it. ${TYPE_MEANWHILE}`,
        "microphone",
      );
    case "LostError":
      return new Problem(
        "lost-microphone",
        `The microphone has gone. Plug it in and try again. ${TYPE_MEANWHILE}`,
        "microphone",
      );
    default:
      return new Problem(
        "microphone",
        `The microphone can't be used (${error?.name ?? error}). ${TYPE_MEANWHILE}`,
        "microphone",
      );
  }
}

/** Why there is no sound at all. */
export function soundProblem(error) {
  return new Problem("sound", `This browser can't play live sound (${error?.name ?? error}). A current one can.`);
}

const ENDED = {
  server_full: [
    "full",
    "The server is full: as many people as it can listen to are talking to it. Try again in a while.",
  ],
  session_idle: ["idle", "Nothing was said for a long time, so the server has ended the conversation."],
  session_expired: ["expired", "The conversation has lasted as long as the server lets one last."],
  server_stopping: ["stopping", "The server is being stopped. Try again in a while."],
};

/**
 * Why a connection ended that was there.
 * @param code of the WebSocket's close, `last` the code of the server's last error.
 * @returns a Problem; its kind is "lost" where trying again by itself makes sense.
 */
export function endProblem(code, last) {
  if (last in ENDED) return new Problem(ENDED[last][0], ENDED[last][1], "retry");
  if (code === 1013) return new Problem("full", ENDED.server_full[1], "retry");
  if (code === 1008)
    return new Problem("policy", "The server has ended the conversation: it got too much at once.", "retry");
  if (code === 1009)
    return new Problem("policy", "The server has ended the conversation: a message was too large.", "retry");
  if (code === 1011)
    return new Problem("failed", "Something in the server has failed. It may work if you try again.", "retry");
  return new Problem("lost", "The connection was lost.", "retry");
}

/** Why the server couldn't be asked, from its answer to a question by HTTP; null if it could. */
export async function refusal(response) {
  if (response.ok) return null;
  if (response.status === 401) {
    return new Problem("token", "This server asks for a token. Whoever runs it can tell you which.", "token");
  }
  let said = "";
  try {
    said = (await response.json()).error.message;
  } catch {
    // not one of the server's own answers
  }
  if (response.status === 503) return new Problem("full", ENDED.server_full[1], "retry");
  return new Problem("refused", `The server refuses: ${said || `status ${response.status}`}`, "retry");
}

export function unreachable() {
  return new Problem("unreachable", "The server can't be reached. Is it running?", "retry");
}
