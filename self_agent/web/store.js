// The open chat: its pages, its branches, and what is asked in it.
import { batch } from "@preact/signals";
import * as api from "./api.js";
import { newId, randomId, takeNewId } from "./drafts.js";
import { soFar } from "./growth.js";
import { complain, notify } from "./notices.js";
import { ready } from "./rendering.js";
import { follow, leave } from "./replies.js";
import { go } from "./route.js";
import { current, editing, live, messages, older, opening, problem, returned } from "./state.js";
import { explain, say } from "./words.js";

const PAGE = 30; // messages; 50 long ones take up to 181 ms to lay out
const MOST = 400; // more than that are dropped in front when the reader is at the end

let visit = 0; // counts chats that were opened, so that a late answer is not shown in another chat
let reading = null;
let underWay = 0; // reads of the newest page
let isMissed = false; // something has changed while one was

const isHere = (mine) => mine === visit;

/** Show a chat; null is a new one, which has an id already but is not stored. */
export async function show(id) {
  leave();
  reading?.abort();
  const mine = ++visit;
  batch(() => {
    current.value = { id: id ?? newId(), isNew: id === null };
    messages.value = [];
    older.value = false;
    opening.value = id !== null;
    problem.value = editing.value = null;
    live.value = { phase: "idle" };
  });
  await load(mine);
}

/** Read the newest page, and join the reply if one is being written. Returns whether it could be read. */
async function load(mine = visit, { join = true } = {}) {
  reading = new AbortController();
  const { signal } = reading;
  underWay++;
  try {
    const [chat] = await Promise.all([api.read(current.value.id, { size: PAGE, signal }), ready]);
    if (!isHere(mine)) return false;
    if (live.value.phase !== "idle") return true; // something was asked meanwhile, and will be read at its end
    take(chat);
    if (join && chat.answering) joinReply();
    return true;
  } catch (error) {
    if (!isHere(mine) || signal.aborted) return false;
    opening.value = false;
    problem.value = { ...explain(error), ofLoading: true, retry: () => load(mine) };
    return false;
  } finally {
    underWay--;
    if (isMissed && !underWay) lookAgain();
  }
}

/** Look again whether somebody else, on another device or in another tab, has changed the open chat. */
export function lookAgain() {
  isMissed = underWay > 0;
  if (!isMissed && live.value.phase === "idle" && !editing.value) load();
}

function take({ messages: page, meta, config, ...chat }) {
  batch(() => {
    opening.value = false;
    if (problem.value?.ofLoading) problem.value = null;
    const { id, isNew } = current.value;
    current.value = { ...chat, id, isNew: isNew && !page.length, fallback: config?.model };
    merge(page, meta.has_more);
  });
}

/** Put the newest page in place of what it covers. A message that is shown already keeps its key, and so its nodes. */
function merge(page, hasMore) {
  const known = new Map(messages.value.filter((one) => one.id).map((one) => [one.id, one]));
  const fresh = page.map((one) => {
    const shown = known.get(one.id);
    const next = { ...one, key: shown?.key ?? one.id, thought: shown?.thought };
    return shown && JSON.stringify(shown) === JSON.stringify(next) ? shown : next;
  });
  const at = messages.value.findIndex((one) => one.id === page[0]?.id);
  const kept = at > 0 ? messages.value.slice(0, at) : [];
  messages.value = [...kept, ...fresh];
  older.value = kept.length ? older.value : hasMore;
}

let loading = false;
/** Load the page in front of the first message that is shown; `before` and `after` are called around the change. */
export async function loadOlder() {
  const first = messages.value[0]?.id;
  if (loading || !older.value || !first) return;
  loading = true;
  const mine = visit;
  try {
    const chat = await api.read(current.value.id, { size: 25, before: first });
    if (!isHere(mine) || messages.value[0]?.id !== first) return;
    batch(() => {
      messages.value = [...chat.messages.map((one) => ({ ...one, key: one.id, fresh: true })), ...messages.value];
      older.value = chat.meta.has_more;
    });
  } catch (error) {
    if (isHere(mine)) complain(error);
  } finally {
    loading = false;
  }
}

/** Forget what is far above; it is loaded again when somebody reads up. */
export function trim() {
  if (messages.value.length <= MOST || live.value.phase !== "idle") return;
  messages.value = messages.value.slice(-PAGE);
  older.value = true;
}

// --- asking

/** Send a question; with `parent` it begins another branch behind that message (0: another beginning). */
export async function send(text, parent) {
  const { id, isNew } = current.value;
  const key = randomId();
  const question = { key, id: null, role: "user", content: text, timestamp: new Date().toISOString(), siblings: [] };
  const body = parent === undefined ? { content: text } : { content: text, parent };
  const shown = parent === undefined ? messages.value : upTo(parent);
  if (isNew) {
    takeNewId();
    current.value = { ...current.value, isNew: false, first_line: text.trim().split("\n")[0].slice(0, 80) };
    go(id, { replace: true });
  }
  await ask({ shown: [...shown, question], question, open: (signal) => api.send(id, body, key, signal) });
}

function upTo(parent) {
  const at = messages.value.findIndex((one) => one.id === parent);
  return parent ? messages.value.slice(0, at + 1) : [];
}

/** Answer a question anew; the other replies to it stay and can be leafed back to. */
export async function regenerate(message) {
  if (live.value.phase !== "idle") return notify(say("busy"));
  const { id } = current.value;
  const at = messages.value.findIndex((one) => one.id === message.id);
  const shown = messages.value.slice(0, message.role === "user" ? at + 1 : at);
  const key = randomId();
  const open = (signal) => api.regenerate(id, message.id, {}, key, signal);
  return ask({ shown, open, again: () => regenerate(message) });
}

function joinReply() {
  const { id } = current.value;
  return ask({ shown: messages.value, open: (signal) => api.join(id, 0, signal), isJoin: true });
}

async function ask({ shown, question, open, again, isJoin = false }) {
  const mine = visit;
  const before = new Set(messages.value.map((one) => one.id));
  problem.value = editing.value = null;
  const { id } = current.value;
  const { end, error } = await follow({ id, shown, question, open });
  if (!isHere(mine)) return;
  live.value = { phase: "idle" };
  if (!(await load(mine, { join: !isJoin || end === "done" })) && isHere(mine)) dropUnstored();
  if (!isHere(mine)) return;
  const last = messages.value.at(-1);
  const isOurs = (one) => one.id && !before.has(one.id) && one.role === "user" && one.content === question.content;
  if (question && !messages.value.some(isOurs)) returned.value = { id, text: question.content };
  else if (last?.role === "user") again = () => regenerate(last);
  if (error && !(isJoin && error.status === 404)) problem.value = { ...explain(error), retry: again };
}

/** The server cannot be asked what it has kept: show what it has acknowledged. */
function dropUnstored() {
  messages.value = messages.value
    .filter((one) => one.id)
    .map((one) => (one.growing ? { ...one, growing: false, incomplete: true, content: soFar().text } : one));
}

// --- branches

export async function choose(message, id) {
  if (live.value.phase !== "idle") return notify(say("busy"));
  const mine = visit;
  try {
    await api.choose(current.value.id, id);
    if (isHere(mine)) await load(mine);
  } catch (error) {
    complain(error);
  }
}

export async function fork(message) {
  try {
    const heading = await api.fork(current.value.id, message.id);
    go(heading.conversation_id);
    notify(say("forked"));
  } catch (error) {
    complain(error);
  }
}

// --- settings of a chat

/** Set its model or its instructions; a chat that is not stored yet is made first. */
export async function configure(changes) {
  const { id, isNew } = current.value;
  const before = current.value;
  current.value = { ...before, ...changes };
  try {
    if (isNew) await api.prepare(id);
    const { system_prompt, model } = await api.change(id, changes);
    if (current.value.id === id) current.value = { ...current.value, system_prompt, model };
    return true;
  } catch (error) {
    if (current.value.id === id) current.value = { ...current.value, system_prompt: before.system_prompt, model: before.model };
    complain(error);
    return false;
  }
}
