// One user: balance, chart, open holds and history, kept up to date by the user's events.

import { read, svg } from "./api.js";
import { grouped, parse, signed } from "./exact.js";
import { watch } from "./live.js";

const PAGE = 25;
const CHART = 500;
const HOLDS = 50;
// Thousands of events a second must not be thousands of drawings.
const DRAW_MILLIS = 150;
const CHART_MILLIS = 1_000;

const element = (id) => document.getElementById(id);

let user;
let watching = new AbortController();
let canAct = () => undefined;
let report = () => {};

// Which buttons a hold gets, and who hears of problems.
export function start(buttonsOfHold, problem) {
  canAct = buttonsOfHold;
  report = problem;
  element("newest").addEventListener("click", () => turnTo(undefined));
  element("older").addEventListener("click", () => turnTo(user?.next));
}

export const current = () => user?.id;

// Shows nobody.
export function clear() {
  watching.abort();
  user = undefined;
  element("user-part").hidden = true;
}

export async function show(id) {
  clear();
  watching = new AbortController();
  const shown = { id, before: undefined, next: undefined, newest: [], chartAt: 0 };
  user = shown;
  try {
    const { balance, held, version } = parse(await read(`users/${id}`));
    if (user !== shown) return;
    stand({ balance, held, version });
    element("user-title").textContent = `User ${id}`;
    element("user-part").hidden = false;
    await Promise.all([page(shown), holds(shown), chart(shown)]);
  } catch (error) {
    if (user === shown) report(error);
    return;
  }
  if (user !== shown) return;
  const listener = {
    event: (name, data) => take(shown, name, data),
    state: (text) => {
      element("live").textContent = text;
      element("live").className = text === "live" ? "good" : "bad";
    },
    refused: report,
  };
  watch(`users/${id}/events?after=${shown.version}`, listener, watching.signal);
}

function stand({ balance, held, version }) {
  user.version = version;
  element("balance").textContent = grouped(balance);
  element("held").textContent = grouped(held);
  element("version").textContent = grouped(version);
}

// Keeps the newest entries as text: what will never be shown is never parsed.
function take(shown, name, data) {
  if (shown !== user) return;
  if (name !== "change") return;
  shown.newest.push(data);
  // Also where a reference has such a text, which does no harm.
  if (data.includes('"hold":')) shown.hasNewHolds = true;
  if (shown.newest.length > 2 * PAGE) shown.newest = shown.newest.slice(-PAGE);
  shown.drawing ??= setTimeout(() => draw(shown), DRAW_MILLIS);
}

function draw(shown) {
  shown.drawing = undefined;
  if (shown !== user) return;
  const entries = shown.newest.slice(-PAGE).map(parse).reverse();
  shown.newest = [];
  stand(entries[0]);
  if (shown.before === undefined) {
    // The page may have been read after some of these entries were made.
    const oldestNew = BigInt(entries.at(-1).version);
    const isOlder = (line) => BigInt(line.dataset.version) < oldestNew;
    const known = [...element("history").rows].filter(isOlder).slice(0, PAGE - entries.length);
    const rows = entries.map(row);
    rows.forEach((one) => one.classList.add("new"));
    element("history").replaceChildren(...rows, ...known);
    const oldest = element("history").lastElementChild;
    shown.next = oldest?.dataset.version === "1" ? undefined : oldest?.dataset.version;
    element("older").disabled = shown.next === undefined;
  }
  refreshLater(shown);
}

// The chart and the holds need a request each, so they are at most a second late.
function refreshLater(shown) {
  if (shown.refreshing !== undefined) return;
  const wait = Math.max(0, shown.chartAt + CHART_MILLIS - Date.now());
  shown.refreshing = setTimeout(async () => {
    shown.refreshing = undefined;
    if (shown !== user) return;
    try {
      const hasNewHolds = shown.hasNewHolds;
      shown.hasNewHolds = false;
      await Promise.all([chart(shown), hasNewHolds ? holds(shown) : undefined]);
    } catch (error) {
      if (shown === user) report(error);
    }
  }, wait);
}

async function turnTo(before) {
  const shown = user;
  shown.before = before;
  try {
    await Promise.all([page(shown), chart(shown)]);
  } catch (error) {
    report(error);
  }
}

const from = ({ before }) => (before === undefined ? "" : `&before=${before}`);

async function page(shown) {
  const { changes, next } = parse(await read(`users/${shown.id}/changes?limit=${PAGE}${from(shown)}`));
  if (shown !== user) return;
  shown.next = next ?? undefined;
  element("history").replaceChildren(...changes.map(row));
  element("older").disabled = shown.next === undefined;
  element("newest").disabled = shown.before === undefined;
  element("page-note").textContent = shown.before === undefined ? "The newest entries, live." : `Before version ${grouped(shown.before)}.`;
}

async function chart(shown) {
  shown.chartAt = Date.now();
  const drawn = await read(`console/users/${shown.id}/balance?limit=${CHART}${from(shown)}`);
  if (shown === user) element("balance-chart").replaceChildren(svg(drawn));
}

async function holds(shown) {
  const found = parse(await read(`users/${shown.id}/holds?state=open&limit=${HOLDS}`));
  if (shown !== user) return;
  const rows = found.holds.map((hold) => {
    const line = cells([
      [hold.hold, "number"], [grouped(hold.amount), "number"], [moment(hold.expiresAt).slice(0, 19)], [hold.reference ?? "", "details"],
    ]);
    const acts = line.insertCell();
    acts.className = "acts";
    acts.append(...(canAct(shown.id, hold.hold) ?? []));
    return line;
  });
  // A button that has the focus keeps it, where nothing has changed.
  const text = found.holds.map(({ hold, amount }) => `${hold} ${amount}`).join();
  if (shown.holdsShown !== text) element("holds").replaceChildren(...rows);
  shown.holdsShown = text;
  element("no-holds").hidden = rows.length > 0;
  element("holds-region").hidden = rows.length === 0;
  element("more-holds").hidden = found.next === null;
}

function row(entry) {
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
