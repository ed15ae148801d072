// Requests to the service, with the token of this tab.

const KEPT = "plimsoll-token";
const REQUEST_MILLIS_MAX = 60_000;

export const token = {
  get: () => sessionStorage.getItem(KEPT),
  // Throws where a header cannot carry the text: kept, it would make every request fail.
  set(text) {
    new Headers({ Authorization: `Bearer ${text}` });
    sessionStorage.setItem(KEPT, text);
  },
  forget: () => sessionStorage.removeItem(KEPT),
};

// Is called after an answer of 401 to the present token.
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

  // Whether it would be refused again. A 401 either empties the page, or comes from an instance that does not know
  // the token yet.
  get isFinal() {
    return this.status < 500 && this.status !== 401;
  }
}

// A request with the token. Its answer may be a stream.
export async function send(path, { headers, ...others } = {}) {
  const sent = token.get();
  const all = new Headers(headers);
  if (sent) all.set("Authorization", `Bearer ${sent}`);
  const response = await fetch(path, { cache: "no-store", ...others, headers: all });
  // A token that has been replaced meanwhile is no problem any more.
  if (response.status === 401 && sent === token.get()) unauthorized();
  return response;
}

// The answer as it is, whatever its status.
export async function ask(method, path, { body, key, millis = REQUEST_MILLIS_MAX } = {}) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key !== undefined) headers["Idempotency-Key"] = key;
  const response = await send(path, { method, body, headers, signal: AbortSignal.timeout(millis) });
  const text = await response.text();
  return { status: response.status, text, replayed: response.headers.has("Idempotent-Replayed") };
}

// The text of a success.
export async function read(path, millis) {
  const { status, text } = await ask("GET", path, { millis });
  if (status !== 200) throw new Refusal(status, text);
  return text;
}

export const pause = (millis) => new Promise((go) => setTimeout(go, millis));

// Waits while the tab is hidden. A browser has few connections for all tabs of an origin.
export async function visible() {
  while (document.hidden) {
    await new Promise((go) => document.addEventListener("visibilitychange", go, { once: true }));
  }
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
