// A user's events. Read with fetch, because EventSource sends no token.

import { Refusal, pause, send, visible } from "./api.js";

// The service says something every 15 seconds.
const SILENCE_MILLIS_MAX = 40_000;

// Calls `listener.event(name, data)` for each event and `listener.state(text)` when the stream begins, breaks or
// is refused, until the signal is aborted. A hidden tab has no stream: it catches up when it is shown.
export async function watch(path, listener, signal) {
  const stream = { path, listener, signal, id: undefined, retry: 1_500 };
  for (;;) {
    await visible();
    if (signal.aborted) return;
    try {
      await readOnce(stream);
    } catch (error) {
      if (signal.aborted) return;
      if (error.isFinal) {
        listener.state("off");
        listener.refused(error);
        return;
      }
    }
    if (signal.aborted) return;
    listener.state("reconnecting");
    if (!document.hidden) await pause(stream.retry);
  }
}

async function readOnce(stream) {
  const broken = new AbortController();
  const stop = () => broken.abort();
  const stopIfHidden = () => document.hidden && stop();
  stream.signal.addEventListener("abort", stop);
  document.addEventListener("visibilitychange", stopIfHidden);
  let silence = setTimeout(stop, SILENCE_MILLIS_MAX);
  try {
    const headers = stream.id === undefined ? {} : { "Last-Event-ID": stream.id };
    const response = await send(stream.path, { headers, signal: broken.signal });
    if (!response.ok) throw new Refusal(response.status, await response.text());
    stream.listener.state("live");
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(silence);
      silence = setTimeout(stop, SILENCE_MILLIS_MAX);
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) take(stream, block);
    }
  } finally {
    clearTimeout(silence);
    stream.signal.removeEventListener("abort", stop);
    document.removeEventListener("visibilitychange", stopIfHidden);
    broken.abort();
  }
}

// One event. The service writes each field on one line.
function take(stream, block) {
  let name;
  let data;
  let id;
  for (const line of block.split("\n")) {
    const colon = line.indexOf(": ");
    const value = line.slice(colon + 2);
    switch (line.slice(0, colon)) {
      case "event": name = value; break;
      case "data": data = value; break;
      case "id": id = value; break;
      case "retry": stream.retry = Number(value); break;
      default: break;
    }
  }
  if (id !== undefined) stream.id = id;
  if (data !== undefined && !stream.signal.aborted) stream.listener.event(name, data);
}
