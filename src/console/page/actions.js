// What a caller with the scope "write" can do, and the exact answer to it.

import { ask } from "./api.js";
import { digits, object } from "./exact.js";
import { current } from "./user.js";

const element = (id) => document.getElementById(id);

let last;
let isAllowed = false;

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

// Takes the last answer off the page.
export function clear() {
  last = undefined;
  element("answer").hidden = true;
}

export function start() {
  element("retry").addEventListener("click", () => send(last));
}

// The buttons of an open hold.
export function buttonsOfHold(user, hold) {
  if (!isAllowed) return undefined;
  return ["Capture", "Release"].map((name) => {
    const button = document.createElement("button");
    button.textContent = name;
    button.setAttribute("aria-label", `${name} hold ${hold}`);
    const act = () => begin(button, "POST", `users/${user}/holds/${hold}/${name.toLowerCase()}`, {});
    button.addEventListener("click", act);
    return button;
  });
}

const text = (typed) => (typed === "" ? undefined : JSON.stringify(typed));

function on(id, request) {
  const form = element(id);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    for (const input of form.querySelectorAll("input")) input.setCustomValidity("");
    try {
      const [method, path, members] = request(Object.fromEntries(new FormData(form)));
      begin(form.querySelector("button"), method, path, members);
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
async function begin(button, method, path, members) {
  button.disabled = true;
  await send({ method, path, body: object(members), key: newKey() });
  button.disabled = false;
}

// Not `crypto.randomUUID`, which browsers have for HTTPS and for this machine only.
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function send(request) {
  last = request;
  element("answer").hidden = false;
  element("asked").textContent = `${request.method} /${request.path}`;
  element("sent").textContent = request.body;
  element("key").textContent = request.key;
  element("body").textContent = "";
  show("sent, waiting for the answer", "");
  element("retry").disabled = true;
  try {
    const { status, text: body, replayed } = await ask(request.method, request.path, request);
    if (request !== last) return;
    element("body").textContent = body;
    show(`${status}${replayed ? ", replayed: the answer of the first time" : ""}${hint(status)}`, status < 300 ? "good" : "bad");
  } catch {
    if (request === last) show("no answer: it may have been applied. Retry to learn it.", "bad");
  }
  element("retry").disabled = false;
}

function hint(status) {
  switch (status) {
    case 403: return ": the token does not have the scope write";
    case 503: return ": not applied, retry";
    case 504: return ": unknown whether it was applied, retry to learn it";
    default: return "";
  }
}

function show(status, kind) {
  element("status").textContent = status;
  element("status").className = kind;
}
