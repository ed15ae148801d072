// The charts of the service as a whole, drawn again each second.

import { Refusal, read, svg } from "./api.js";

const PERIOD_MILLIS = 1_000;
const READINESS_MILLIS = 5_000;
// Neither waits longer than two seconds for the database: a service that is silent for longer hangs.
const ANSWER_MILLIS_MAX = 5_000;

const part = document.getElementById("service-part");
const state = document.getElementById("charts-state");
const readiness = document.getElementById("readiness");

let timer;
let round = 0;

// Begins to draw, if the caller may see it.
export function show(allowed) {
  clearTimeout(timer);
  round += 1;
  part.hidden = !allowed;
  if (allowed) refresh(round);
}

// Asks whether the database answers, from now on.
export async function watchReadiness() {
  if (!document.hidden) {
    try {
      const response = await fetch("readyz", { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MILLIS_MAX) });
      set(response.ok ? "ready" : "not ready", response.ok);
    } catch {
      set("no answer", false);
    }
  }
  setTimeout(watchReadiness, READINESS_MILLIS);
}

function set(text, isReady) {
  if (readiness.textContent !== text) readiness.textContent = text;
  readiness.className = isReady ? "good" : "bad";
}

async function refresh(of) {
  let pause = PERIOD_MILLIS;
  if (!document.hidden) {
    try {
      const { charts } = JSON.parse(await read("console/charts", ANSWER_MILLIS_MAX));
      if (of !== round) return;
      document.getElementById("charts").replaceChildren(...charts.map(figure));
      note("live", true);
    } catch (error) {
      if (of !== round) return;
      note(error instanceof Refusal ? error.message : "no answer, trying again", false);
      pause = 3 * PERIOD_MILLIS;
    }
  }
  timer = setTimeout(() => refresh(of), pause);
}

function note(text, isGood) {
  if (state.textContent !== text) state.textContent = text;
  state.className = isGood ? "good" : "bad";
}

function figure({ title, svg: drawn, series }) {
  const whole = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = title;
  const chart = document.createElement("div");
  chart.className = "chart";
  chart.append(svg(drawn));
  const list = document.createElement("ul");
  list.className = "series";
  list.append(...series.map(({ name, now, swatch }) => {
    const item = document.createElement("li");
    const value = document.createElement("b");
    value.textContent = now;
    item.append(svg(swatch), ` ${name} `, value);
    return item;
  }));
  whole.append(caption, chart, list);
  return whole;
}
