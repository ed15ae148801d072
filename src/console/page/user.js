// One user: balance, chart, open holds and history, kept up to date by the user's events.

import { read, svg, visible } from "./api.js";
import { grouped, parse } from "./exact.js";
import { watch } from "./live.js";
import { rowOfEntry, rowOfHold } from "./rows.js";

const PAGE = 25;
const CHART = 500;
const HOLDS = 50;
// Thousands of events a second must not be thousands of drawings.
const DRAW_MILLIS = 150;
const CHART_MILLIS = 1_000;
const RETRY_MILLIS = 3_000;

const element = (id) => document.getElementById(id);

let user;
let watching = new AbortController();
let canAct = () => undefined;
let report = () => {};

// Which buttons a hold gets, and who hears of problems, and without an argument of their end.
export function start(buttonsOfHold, problem) {
  canAct = buttonsOfHold;
  report = problem;
  element("newest").addEventListener("click", () => turnTo(user, undefined));
  element("older").addEventListener("click", () => turnTo(user, user.next));
}

export const current = () => user?.id;

// Shows nobody. Nothing of the user before may be seen, or acted on, under the name of the next.
export function clear() {
  watching.abort();
  user = undefined;
  element("user-part").hidden = true;
  element("holds-region").hidden = true;
  for (const id of ["user-title", "live", "balance", "held", "version", "balance-chart", "holds", "history", "page-note"]) {
    element(id).replaceChildren();
  }
}

export async function show(id) {
  clear();
  watching = new AbortController();
  // `before` is the page on the screen, where undefined is the newest; `turns` counts such pages, `turning` the
  // requests for one. `newest` are events that are not drawn yet, `recent` those that are.
  const shown = { id, before: undefined, turns: 0, turning: 0, newest: [], recent: [], chartAt: 0 };
  user = shown;
  try {
    const standing = parse(await read(`users/${id}`));
    if (user !== shown) return;
    const [changes, drawn, open] = await Promise.all([readPage(shown), readChart(shown), readHolds(shown)]);
    if (user !== shown) return;
    stand(standing);
    showPage(shown, changes);
    showChart(drawn);
    showHolds(shown, open);
  } catch (error) {
    if (user !== shown) return;
    clear();
    report(error);
    return;
  }
  element("user-title").textContent = `User ${id}`;
  element("user-part").hidden = false;
  const listener = {
    event: (name, data) => take(shown, name, data),
    state: (text) => {
      if (shown !== user) return;
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
  shown.recent = [...entries, ...shown.recent].slice(0, PAGE);
  stand(entries[0]);
  if (shown.before === undefined) {
    // The page may have been read after some of these entries were made.
    const oldestNew = BigInt(entries.at(-1).version);
    const isOlder = (line) => BigInt(line.dataset.version) < oldestNew;
    const known = [...element("history").rows].filter(isOlder).slice(0, PAGE - entries.length);
    const rows = entries.map(rowOfEntry);
    rows.forEach((one) => one.classList.add("new"));
    showRows(shown, [...rows, ...known]);
  }
  refreshLater(shown, Math.max(0, shown.chartAt + CHART_MILLIS - Date.now()));
}

// The chart and the holds need a request each, so they are at most a second late. One refresh runs at a time, so
// that no older answer comes after a newer one.
function refreshLater(shown, wait) {
  shown.isStale = true;
  if (shown.isRefreshing) return;
  shown.isRefreshing = true;
  setTimeout(() => refresh(shown), wait);
}

async function refresh(shown) {
  await visible();
  if (shown !== user) return;
  const { hasNewHolds, turns } = shown;
  shown.isStale = false;
  shown.hasNewHolds = false;
  let wait = CHART_MILLIS;
  try {
    const [drawn, open] = await Promise.all([readChart(shown, shown.before), hasNewHolds ? readHolds(shown) : undefined]);
    if (shown !== user) return;
    if (open) showHolds(shown, open);
    if (turns === shown.turns) showChart(drawn);
    else shown.isStale = true;
    if (shown.hasFailed) report();
    shown.hasFailed = false;
  } catch (error) {
    if (shown !== user) return;
    report(error);
    shown.hasFailed = true;
    shown.hasNewHolds ||= hasNewHolds;
    shown.isStale ||= !error.isFinal;
    wait = RETRY_MILLIS;
  }
  shown.isRefreshing = false;
  if (shown.isStale) refreshLater(shown, wait);
}

// What was clicked last is shown, in whichever order the answers come. Until then the page stays as it is.
async function turnTo(shown, before) {
  shown.turning += 1;
  const { turning } = shown;
  const isWanted = () => shown === user && turning === shown.turning;
  try {
    const [changes, drawn] = await Promise.all([readPage(shown, before), readChart(shown, before)]);
    if (!isWanted()) return;
    shown.turns += 1;
    shown.before = before;
    showPage(shown, changes);
    showChart(drawn);
    report();
    // Events may have come since the chart was read.
    if (before === undefined) refreshLater(shown, CHART_MILLIS);
  } catch (error) {
    if (isWanted()) report(error);
  }
}

const from = (before) => (before === undefined ? "" : `&before=${before}`);

async function readPage({ id }, before) {
  return parse(await read(`users/${id}/changes?limit=${PAGE}${from(before)}`)).changes;
}

function readChart(shown, before) {
  shown.chartAt = Date.now();
  return read(`console/users/${shown.id}/balance?limit=${CHART}${from(before)}`);
}

async function readHolds({ id }) {
  return parse(await read(`users/${id}/holds?state=open&limit=${HOLDS}`));
}

function showPage(shown, changes) {
  const isNewest = shown.before === undefined;
  // Events may have come since the page was read.
  const last = BigInt(changes[0]?.version ?? 0);
  const since = isNewest ? shown.recent.filter(({ version }) => BigInt(version) > last) : [];
  showRows(shown, [...since, ...changes].slice(0, PAGE).map(rowOfEntry));
  element("newest").disabled = isNewest;
  element("page-note").textContent = isNewest ? "The newest entries, live." : `Before version ${grouped(shown.before)}.`;
}

// Versions begin at 1, so the last page is known by it.
function showRows(shown, rows) {
  element("history").replaceChildren(...rows);
  const oldest = rows.at(-1)?.dataset.version;
  shown.next = oldest === "1" ? undefined : oldest;
  element("older").disabled = shown.next === undefined;
}

function showChart(drawn) {
  element("balance-chart").replaceChildren(svg(drawn));
}

// The row of a hold stays the same as long as it is open, with its place under the pointer and with the focus.
function showHolds(shown, found) {
  const list = element("holds");
  const known = new Map([...list.rows].map((line) => [line.dataset.hold, line]));
  const rows = found.holds.map((hold) => known.get(hold.hold) ?? rowOfHold(hold, canAct(shown.id, hold)));
  for (const line of known.values()) {
    if (!rows.includes(line)) line.remove();
  }
  // Both are in the same order. A row that is put where it is already would lose the focus.
  let place = list.firstElementChild;
  for (const line of rows) {
    if (line === place) place = place.nextElementSibling;
    else list.insertBefore(line, place);
  }
  element("no-holds").hidden = rows.length > 0;
  element("holds-region").hidden = rows.length === 0;
  element("more-holds").hidden = found.next === null;
}
