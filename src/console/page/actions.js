// What a caller with the scope "write" can do, and the exact answer to it.

import { ask } from "./api.js";
import { digits, grouped, object } from "./exact.js";
import { current } from "./user.js";

const element = (id) => document.getElementById(id);

const ARMED_MILLIS = 5_000;

// The operation that is on the page. It `isPending` until it is answered. It `isUnknown` from an attempt that may have
// been applied until an answer that decides. Its key is all that can tell, so it is not replaced meanwhile.
let last;
let isAllowed = false;

const isUnresolved = () => last !== undefined && (last.isPending || last.isUnknown);

// Puts the forms onto the page, or takes them away.
export function allow(allowed) {
  isAllowed = allowed;
  element("acting").replaceChildren();
  clear();
  if (!allowed) return;
  element("acting").append(element("forms").content.cloneNode(true));
  on("change", ({ amount, reference }) => [
    "PATCH", `users/${current()}/balance`, { amount: digits("Amount", amount), reference: text(reference) },
  ]);
  on("transfer", ({ to, amount, reference }) => [
    "POST", "transfers",
    { from: current(), to: digits("To user", to), amount: digits("Amount", amount), reference: text(reference) },
  ]);
  on("hold", ({ amount, expiresInSeconds, reference }) => [
    "POST", `users/${current()}/holds`,
    {
      amount: digits("Amount", amount),
      expiresInSeconds: expiresInSeconds.trim() === "" ? undefined : digits("Seconds", expiresInSeconds),
      reference: text(reference),
    },
  ]);
}

// Takes the last answer off the page, if nothing can be learnt with its key any more.
export function clear() {
  if (!isUnresolved()) dismiss();
}

function dismiss() {
  last = undefined;
  element("answer").hidden = true;
}

export function start() {
  element("retry").addEventListener("click", () => last.isPending || send(last));
  element("dismiss").addEventListener("click", dismiss);
  window.addEventListener("beforeunload", (event) => isUnresolved() && event.preventDefault());
}

// The buttons of an open hold.
export function buttonsOfHold(user, { hold, amount }) {
  if (!isAllowed) return undefined;
  return ["Capture", "Release"].map((name) => {
    const act = () => begin("POST", `users/${user}/holds/${hold}/${name.toLowerCase()}`, {});
    return buttonOfTwoClicks(name, `${name} ${grouped(amount)}?`, `hold ${hold}`, act);
  });
}

// Nothing takes these acts back, and rows move: the first click asks in place, the second one acts.
function buttonOfTwoClicks(name, question, object, act) {
  const button = document.createElement("button");
  let armed;
  const say = (text) => {
    button.textContent = text;
    button.setAttribute("aria-label", `${text} ${object}`);
  };
  const disarm = () => {
    clearTimeout(armed);
    armed = undefined;
    say(name);
  };
  disarm();
  button.addEventListener("blur", disarm);
  // Neither a double click nor a key that is held down is an answer.
  button.addEventListener("keydown", (event) => event.repeat && event.preventDefault());
  button.addEventListener("click", (event) => {
    if (event.detail > 1) return;
    if (armed === undefined) {
      armed = setTimeout(disarm, ARMED_MILLIS);
      say(question);
    } else {
      disarm();
      act();
    }
  });
  return button;
}

const text = (typed) => (typed === "" ? undefined : JSON.stringify(typed));

function on(id, request) {
  const form = element(id);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    for (const input of form.querySelectorAll("input")) input.setCustomValidity("");
    try {
      const [method, path, members] = request(Object.fromEntries(new FormData(form)));
      begin(method, path, members);
    } catch (error) {
      const wrong = [...form.querySelectorAll("input")].find((input) => error.message.startsWith(nameOf(input)));
      wrong?.setCustomValidity(error.message);
      form.reportValidity();
    }
  });
  // What was wrong is not wrong any more.
  form.addEventListener("input", (event) => event.target.setCustomValidity(""));
}

const nameOf = (input) => input.closest("label").textContent.trim();

// Each click is another operation, so it has a key of its own.
function begin(method, path, members) {
  if (isUnresolved()) {
    element("answer-note").textContent = "Not sent: resolve the last operation first. Retry it, or dismiss it if its key is in the history.";
    return;
  }
  send({ method, path, body: object(members), key: newKey() });
}

// Not `crypto.randomUUID`, which browsers have for HTTPS and for this machine only.
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function send(request) {
  last = request;
  request.isPending = true;
  element("answer").hidden = false;
  element("answer-note").textContent = "";
  element("asked").textContent = `${request.method} /${request.path}`;
  element("sent").textContent = request.body;
  element("key").textContent = request.key;
  element("body").textContent = "";
  element("retry").ariaDisabled = "true";
  show("sent, waiting for the answer", "");
  const answer = await ask(request.method, request.path, request).catch(() => undefined);
  request.isPending = false;
  // It has been dismissed.
  if (request !== last) return;
  element("retry").ariaDisabled = "false";
  element("answer-note").textContent = "";
  if (answer === undefined) {
    request.isUnknown = !request.isApplied;
    show(request.isApplied ? "no answer, but it was applied before" : "no answer: it may have been applied. Retry to learn it.", "bad");
    return;
  }
  const { status, text: body, replayed } = answer;
  const meaning = judge(request, status, body);
  element("body").textContent = body;
  show(`${status}${replayed ? ", replayed: the answer of the first time" : ""}${meaning}`, status < 300 ? "good" : "bad");
}

// What the answer says about all attempts with the key, if it does not say so itself.
function judge(request, status, body) {
  if (status < 300) request.isApplied = true;
  else if (request.isApplied) return ": it was applied before";
  if (isDecided(status, body)) {
    request.isUnknown = false;
    return "";
  }
  if (status >= 500 && status !== 503) {
    request.isUnknown = true;
    return ": unknown whether it was applied, retry to learn it";
  }
  const reason = status === 403 ? ": the token does not have the scope write" : "";
  if (request.isUnknown) {
    return `${reason}: this attempt was not applied. Whether an earlier one was is still unknown, retry to learn it`;
  }
  return reason || ": not applied, retry";
}

// A 409 may be about a hold, which is its end, or about the key.
function isDecided(status, body) {
  return status < 300 || [400, 404, 422].includes(status) || (status === 409 && body.includes('"The hold is '));
}

function show(status, kind) {
  element("status").textContent = status;
  element("status").className = kind;
}
