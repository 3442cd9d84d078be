// What the server is asked by HTTP, and the way to its WebSocket.

import { Problem, refusal, unreachable } from "./problems.js";
import { say } from "./words.js";

const KEY = "antiphon-token";
const KEY_PROTOCOL = "openai-insecure-api-key."; // how a page, which can set no header, gives a token with a WebSocket

/** The token that was entered; it is forgotten with the tab. */
export function token() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function setToken(value) {
  sessionStorage.setItem(KEY, value);
}

async function ask(path) {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  let response;
  try {
    response = await fetch(new URL(path, location.href), { headers, cache: "no-store" });
  } catch {
    throw unreachable();
  }
  const problem = await refusal(response);
  if (problem) throw problem;
  return response.json();
}

/**
 * {models: names, voices: of each, by name; languages: codes of what it understands; sees: it can be shown pictures;
 * callsFunctions: it can be given tools; duplex: it takes turns by itself}. @throws Problem
 */
export async function offers() {
  const [list, health] = await Promise.all([ask("v1/models"), ask("health")]);
  const voices = {};
  for (const card of list.data) voices[card.id] = card.voices ?? health.voices ?? [];
  return {
    models: list.data.map((card) => card.id),
    voices,
    languages: health.languages ?? [],
    sees: health.sees === true,
    callsFunctions: health.calls_functions === true,
    duplex: health.duplex === true,
  };
}

/** {sessions, capacity, load, status}. @throws Problem */
export function health() {
  return ask("health");
}

/** A WebSocket for a conversation. @throws Problem: the token can't be one */
export function dial(model) {
  const url = new URL("v1/realtime", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  if (model) url.searchParams.set("model", model);
  const protocols = ["realtime"];
  if (token()) protocols.push(KEY_PROTOCOL + token());
  try {
    return new WebSocket(url, protocols);
  } catch {
    throw new Problem("token", say("oddToken"), "token");
  }
}

/** Why a WebSocket wasn't opened: a browser doesn't tell, so the server is asked in another way. */
export async function whyRefused() {
  try {
    await ask("health");
  } catch (problem) {
    return problem;
  }
  return new Problem("token", say("notBegun"), "token");
}
