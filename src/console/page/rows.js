// The rows of the tables of a user.

import { grouped, signed } from "./exact.js";

// An open hold, with the buttons for it if there are any.
export function rowOfHold(hold, buttons = []) {
  const line = cells([
    [hold.hold, "number"], [grouped(hold.amount), "number"], [moment(hold.expiresAt).slice(0, 19)], [hold.reference ?? "", "details"],
  ]);
  line.dataset.hold = hold.hold;
  const acts = line.insertCell();
  acts.className = "acts";
  acts.append(...buttons);
  return line;
}

// An entry of the history.
export function rowOfEntry(entry) {
  const details = [
    entry.hold && `hold ${entry.hold}`,
    entry.heldAmount !== "0" && `held ${signed(entry.heldAmount)}`,
    entry.peer && `user ${entry.peer.user}, version ${entry.peer.version}`,
    entry.reference && `“${entry.reference}”`,
    entry.key && `key ${entry.key}`,
  ];
  const line = cells([
    [grouped(entry.version), "number"], [moment(entry.createdAt)], [entry.kind], [signed(entry.amount), "number"],
    [grouped(entry.balance), "number"], [grouped(entry.held), "number"], [details.filter(Boolean).join(" · "), "details"],
  ]);
  line.dataset.version = entry.version;
  return line;
}

function cells(texts) {
  const line = document.createElement("tr");
  for (const [text, kind] of texts) {
    const cell = line.insertCell();
    cell.textContent = text;
    if (kind) cell.className = kind;
  }
  return line;
}

const moment = (text) => text.replace("T", " ").replace(/\d{3}Z$/, "");
