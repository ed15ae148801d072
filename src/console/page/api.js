// Requests to the service, with the token of this tab.

const KEPT = "plimsoll-token";
const REQUEST_MILLIS_MAX = 60_000;

export const token = {
  get: () => sessionStorage.getItem(KEPT),
  set: (text) => sessionStorage.setItem(KEPT, text),
  forget: () => sessionStorage.removeItem(KEPT),
};

// Is called after an answer of 401.
let unauthorized = () => {};
export function onUnauthorized(listener) {
  unauthorized = listener;
}

// What the service answered instead of what was asked for.
export class Refusal extends Error {
  constructor(status, text) {
    super(sentence(text) || `The service answered ${status}`);
    this.status = status;
  }
}

export function headers(others = {}) {
  const sent = new Headers(others);
  if (token.get()) {
    sent.set("Authorization", `Bearer ${token.get()}`);
  }
  return sent;
}

// The answer as it is, whatever its status.
export async function ask(method, path, { body, key } = {}) {
  const others = {};
  if (body !== undefined) others["Content-Type"] = "application/json";
  if (key !== undefined) others["Idempotency-Key"] = key;
  const signal = AbortSignal.timeout(REQUEST_MILLIS_MAX);
  const response = await fetch(path, { method, body, headers: headers(others), cache: "no-store", signal });
  const text = await response.text();
  if (response.status === 401) unauthorized();
  return { status: response.status, text, replayed: response.headers.has("Idempotent-Replayed") };
}

// The text of a success.
export async function read(path) {
  const { status, text } = await ask("GET", path);
  if (status !== 200) throw new Refusal(status, text);
  return text;
}

// An <svg> element that the service has drawn.
export function svg(text) {
  const parsed = new DOMParser().parseFromString(text, "text/html").querySelector("svg");
  return document.importNode(parsed, true);
}

function sentence(text) {
  try {
    return JSON.parse(text).error;
  } catch {
    return undefined;
  }
}
