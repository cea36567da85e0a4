// The reply that is growing in the open chat: its place among the messages, its phases, its end.
import { batch } from "@preact/signals";
import * as api from "./api.js";
import { acceptDraft, randomId } from "./drafts.js";
import * as growth from "./growth.js";
import { complain } from "./notices.js";
import { live, messages, said } from "./state.js";
import { followReply } from "./stream.js";
import { say } from "./words.js";

let running = null; // { id, accepted, leave }

/** Stop listening; the reply itself goes on at the server. */
export function leave() {
  running?.leave.abort();
  running = null;
}

/** Stop the reply, or the attempt to get one. */
export async function stop() {
  if (!running) return;
  const { id, accepted, leave: left } = running;
  if (!accepted) left.abort();
  try {
    await api.stop(id);
  } catch (error) {
    if (accepted) complain(error);
  }
}

/**
 * Show a reply behind the messages `shown` while it grows; `question` is the one among them that is not stored yet.
 * Returns how it ended, see `followReply`, and the `error` if it did not end well.
 */
export async function follow({ id, shown, question, open }) {
  leave();
  const mine = (running = { id, accepted: !question, leave: new AbortController() });
  const place = { key: randomId(), id: null, role: "assistant", content: "", growing: true, siblings: [] };
  growth.begin();
  batch(() => {
    messages.value = [...shown, place];
    live.value = { phase: "connecting" };
  });
  const told = { end: "left", error: null };
  try {
    told.end = await followReply({
      open,
      join: (after, signal) => api.join(id, after, signal),
      take: (event) => running === mine && (told.error = take(event, { place, question, mine }) ?? null),
      tell: (phase, until) => running === mine && (live.value = { phase, until }),
      signal: mine.leave.signal,
    });
  } catch (error) {
    Object.assign(told, { end: "error", error });
  }
  if (running === mine) running = null;
  return told;
}

function take(event, { place, question, mine }) {
  if (event.type === "start") {
    mine.accepted = true;
    if (question) acceptDraft(mine.id, question.content);
    if (question) update(question.key, { id: event.user_message_id });
    messages.value = messages.value.filter((one) => one.id !== event.message_id || one.key === place.key);
    update(place.key, { id: event.message_id });
  } else if (event.type === "thinking" || event.type === "content") {
    const { text, reasoning, seconds } = growth.soFar();
    if (event.type === "content" && !text && reasoning) update(place.key, { thought: seconds });
    growth.add(event.type, event.delta);
    if (!text && !reasoning) update(place.key, { begun: true });
    if (event.type === "thinking" && !reasoning) update(place.key, { thinks: true });
  } else if (event.type === "sources") {
    update(place.key, { sources: event.sources });
  } else if (event.type === "done") {
    const { full_content: content, reasoning, incomplete = false } = event;
    update(place.key, { content, reasoning, incomplete, growing: false });
    said.value = say("done", { text: content.slice(0, 200) });
  } else if (event.type === "error") {
    return { kind: "reply", words: event.error };
  }
  return undefined;
}

function update(key, changes) {
  messages.value = messages.value.map((one) => (one.key === key ? { ...one, ...changes } : one));
}
