// Who calls, and what the token opens. Asks for a token where one is needed.

import { onUnauthorized, pause, read, token } from "./api.js";

const RETRY_MILLIS = 3_000;

const dialog = document.getElementById("token-dialog");
const input = document.getElementById("token");
const button = document.getElementById("change-token");
const why = document.getElementById("token-why");

let changed = async () => {};
let isChecking = false;

// Calls the listener with what is open to the caller, now and after each change of the token.
export async function start(listener, problem) {
  changed = listener;
  button.addEventListener("click", () => open("Another token may open more."));
  document.getElementById("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    use(input.value.trim());
  });
  document.getElementById("forget-token").addEventListener("click", () => {
    token.forget();
    check("The token is forgotten.").catch(explain);
  });
  onUnauthorized(recheck);
  for (;;) {
    try {
      return await check(token.get() ? "The token is not valid any more." : "This service shows and changes balances with a token only.");
    } catch (error) {
      problem(error);
      await pause(RETRY_MILLIS);
    }
  }
}

function use(text) {
  try {
    token.set(text);
  } catch {
    why.textContent = "No token has such characters.";
    return;
  }
  check("The service does not know this token.").catch(explain);
}

// Of many answers of 401 at once, the first asks.
async function recheck() {
  if (dialog.open || isChecking) return;
  isChecking = true;
  try {
    await check("The token is not valid any more.", false);
  } catch {
    // The next answer of 401 asks again.
  } finally {
    isChecking = false;
  }
}

async function check(problem, isNew = true) {
  const sent = token.get();
  const access = JSON.parse(await read("console/access"));
  // An answer to the token before says nothing about the present one.
  if (sent !== token.get()) return;
  button.hidden = !access.needsToken;
  document.getElementById("caller").textContent = access.caller
    ? `${access.caller}: ${access.scopes.join(", ")}`
    : "";
  const isRefused = access.needsToken && access.caller === null;
  if (isRefused) {
    token.forget();
    open(problem);
  } else if (isNew) {
    dialog.close();
  }
  // Where this instance knows the token and another one does not yet, nothing has changed.
  if (isRefused || isNew) await changed(access);
}

function open(reason) {
  why.textContent = reason;
  input.value = "";
  document.getElementById("forget-token").hidden = !token.get();
  if (!dialog.open) dialog.showModal();
  input.focus();
}

// The token that was typed stays, so that it can be sent again.
function explain(error) {
  why.textContent = `The service could not be asked: ${error.message}`;
}
