// Who calls, and what the token opens. Asks for a token where one is needed.

import { onUnauthorized, read, token } from "./api.js";

const dialog = document.getElementById("token-dialog");
const input = document.getElementById("token");
const button = document.getElementById("change-token");

let changed = async () => {};

// Calls the listener with what is open to the caller, now and after each change of the token.
export async function start(listener) {
  changed = listener;
  button.addEventListener("click", () => open("Another token may open more."));
  document.getElementById("token-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    token.set(input.value.trim());
    await check("The service does not know this token.");
  });
  document.getElementById("forget-token").addEventListener("click", async () => {
    token.forget();
    await check("The token is forgotten.");
  });
  onUnauthorized(() => {
    // Of many requests at once, the first opens it.
    if (!dialog.open) check("The token is not valid any more.");
  });
  await check(token.get() ? "The token is not valid any more." : "This service shows and changes balances with a token only.");
}

async function check(problem) {
  const access = JSON.parse(await read("console/access"));
  button.hidden = !access.needsToken;
  document.getElementById("caller").textContent = access.caller
    ? `${access.caller}: ${access.scopes.join(", ")}`
    : "";
  if (access.needsToken && access.caller === null) {
    token.forget();
    open(problem);
  } else {
    dialog.close();
  }
  await changed(access);
}

function open(why) {
  document.getElementById("token-why").textContent = why;
  input.value = "";
  document.getElementById("forget-token").hidden = !token.get();
  if (!dialog.open) dialog.showModal();
  input.focus();
}
