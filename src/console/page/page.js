// The console: puts its parts together.

import * as access from "./access.js";
import * as actions from "./actions.js";
import * as service from "./service.js";
import * as user from "./user.js";

const lookup = document.getElementById("lookup");
const input = document.getElementById("user");
const notice = document.getElementById("notice");

let canRead = false;

// Shows what is wrong, or without an error that it is right again.
function problem(error) {
  const isForbidden = error?.status === 403;
  notice.textContent = isForbidden ? "Forbidden: the token does not have the scope read." : String(error?.message ?? error ?? "");
  notice.hidden = error === undefined;
}

// The address names the user, so that it can be sent to a colleague.
function named() {
  const found = /^#user=([0-9]+)$/.exec(location.hash);
  // JSON has no zeros in front.
  return found ? BigInt(found[1]).toString() : undefined;
}

async function showNamed() {
  problem();
  actions.clear();
  const id = named();
  if (!canRead || id === undefined) {
    user.clear();
    return;
  }
  input.value = id;
  await user.show(id);
}

async function opened({ scopes, hasUsers, hasService }) {
  const has = (scope) => scopes.includes(scope);
  canRead = hasUsers && has("read");
  lookup.hidden = !canRead;
  actions.allow(hasUsers && has("write"));
  service.show(hasService && has("metrics"));
  await showNamed();
  if (!canRead && hasUsers && scopes.length > 0) {
    problem("The token does not have the scope read: no user can be shown.");
  } else if (!hasUsers) {
    problem("This is the internal address: users are shown on the public one.");
  }
}

lookup.addEventListener("submit", (event) => {
  event.preventDefault();
  const hash = `#user=${input.value.trim()}`;
  if (location.hash === hash) showNamed();
  else location.hash = hash;
});
window.addEventListener("hashchange", showNamed);
actions.start();
user.start(actions.buttonsOfHold, problem);
service.watchReadiness();
access.start(opened, problem);
