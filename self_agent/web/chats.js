// The list: its pages, what is done to a chat in it, and the one connection on which the server tells what changed.
import * as api from "./api.js";
import { complain, notify } from "./notices.js";
import { go, route } from "./route.js";
import { events } from "./sse.js";
import { archive, chats, current, list, query } from "./state.js";
import { rest } from "./stream.js";
import { nameOf, say } from "./words.js";

const PAGE = 40;
const MOST = 500; // headings in one answer
const POLL = 5000; // ms, where the server has no /events
const HIDDEN = 20_000; // ms after which a hidden tab gives its connection back: a browser has six for a server
let asked = 0;

const wanted = (page, size) => api.headings({ page, size, q: query.value.trim(), archived: archive.value });

/** Load the list again, as much of it as is shown. */
export async function refresh() {
  const mine = ++asked;
  try {
    const { data, meta } = await wanted(1, Math.min(MOST, Math.max(PAGE, chats.value.length)));
    if (mine !== asked) return;
    chats.value = data;
    list.value = { state: "ready", more: data.length < meta.total };
    const open = data.find((heading) => heading.conversation_id === current.value.id);
    if (open) current.value = { ...current.value, ...open };
  } catch (error) {
    if (mine === asked) list.value = { ...list.value, state: chats.value.length ? "ready" : "failed", error };
  }
}

/** Load the next page; what has moved meanwhile is shown once. */
export async function more() {
  if (!list.value.more || list.value.state === "paging") return;
  const mine = ++asked;
  list.value = { ...list.value, state: "paging" };
  try {
    const page = Math.floor(chats.value.length / PAGE) + 1;
    const { data, meta } = await wanted(page, PAGE);
    if (mine !== asked) return;
    const known = new Set(chats.value.map((heading) => heading.conversation_id));
    chats.value = [...chats.value, ...data.filter((heading) => !known.has(heading.conversation_id))];
    list.value = { state: "ready", more: page * PAGE < meta.total };
  } catch {
    if (mine === asked) list.value = { ...list.value, state: "ready", more: false }; // the next refresh asks again
  }
}

let typing;
/** Search for what is typed, when the typing pauses. */
export function search(text) {
  query.value = text;
  clearTimeout(typing);
  typing = setTimeout(refresh, 180);
}

/** Show what is archived, or what is not. */
export function showArchive(on) {
  archive.value = on;
  chats.value = [];
  list.value = { state: "loading", more: false };
  return refresh();
}

// --- what is done to a chat

const replace = (id, changes) => {
  chats.value = chats.value.map((one) => (one.conversation_id === id ? { ...one, ...changes } : one));
  if (current.value.id === id) current.value = { ...current.value, ...changes };
};

async function change(id, changes, shown = changes) {
  replace(id, shown);
  try {
    replace(id, await api.change(id, changes));
  } catch (error) {
    complain(error);
  }
  return refresh();
}

export const rename = (id, name) => change(id, { name }, { title: name || null });
export const pin = (id, pinned) => change(id, { pinned });

export async function setArchived(heading, archived) {
  const id = heading.conversation_id;
  await change(id, { archived });
  if (archived) notify(say("archivedNow", { name: nameOf(heading) }), { label: say("undo"), act: () => change(id, { archived: false }) });
}

/** Delete at once; the server keeps it for 30 days, so it can be taken back. */
export async function remove(heading) {
  const id = heading.conversation_id;
  const name = nameOf(heading);
  const wasOpen = route.value === id;
  chats.value = chats.value.filter((one) => one.conversation_id !== id);
  if (wasOpen) go(null);
  try {
    await api.remove(id);
    offerUndo(id, name, wasOpen);
  } catch (error) {
    complain(error);
    if (wasOpen) go(id);
  }
  return refresh();
}

const offerUndo = (id, name, reopen) =>
  notify(say("deleted", { name }), { label: say("undo"), act: () => restore(id, name, reopen) });

/** The open chat has been deleted in another tab or on another device. */
export function leaveDeleted() {
  const { id } = current.value;
  offerUndo(id, nameOf(current.value), true);
  go(null);
}

async function restore(id, name, reopen) {
  try {
    await api.restore(id);
    notify(say("restored", { name }));
    if (reopen) go(id);
  } catch (error) {
    complain(error);
  }
  return refresh();
}

/** Save a chat, or with no id all of them, as a file. */
export async function save(id, format, name) {
  try {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await api.exported(id, format));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  } catch (error) {
    complain(error);
  }
}

/** Let the reader choose a file of chats, of this server, ChatGPT or Open WebUI, and take it in. */
export function bringIn() {
  const input = Object.assign(document.createElement("input"), { type: "file", accept: ".json,.zip" });
  input.onchange = async () => {
    notify(say("importing"));
    try {
      const { imported, skipped, failed } = await api.takeIn(input.files[0]);
      notify(say("imported", { count: imported, skipped, failed }), { isError: failed > 0 });
    } catch (error) {
      complain(error);
    }
    refresh();
  };
  input.click();
}

// --- what the server tells

/** Keep the list as it is at the server, for ever; `news(type, id)` is told what happened to a chat. */
export async function followList(news) {
  for (;;) {
    await visible();
    const cut = new AbortController();
    const free = whenHidden(() => cut.abort());
    const catchUp = () => (news("connected", null), refresh()); // what was missed meanwhile
    let pause = 1000 + 1000 * Math.random();
    try {
      const response = await api.followList(cut.signal);
      await catchUp();
      for await (const { data } of events(response)) hear(JSON.parse(data), news);
    } catch (error) {
      if (error.status === 404) { // an older server: it is asked now and then
        pause = POLL;
        await catchUp();
      } else {
        news("lost", null);
        if (list.value.state !== "ready") list.value = { ...list.value, state: "failed", error };
      }
    } finally {
      free();
    }
    await rest(pause);
  }
}

let soon = 0;
function hear({ type, conversation_id: id }, news) {
  if (type === "answering" || type === "answered") replace(id, { answering: type === "answering" });
  news(type, id);
  if (!soon) soon = setTimeout(() => ((soon = 0), refresh()), 150); // several at once are one look
}

function visible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}

function whenHidden(act) {
  let timer;
  const look = () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(act, HIDDEN);
  };
  document.addEventListener("visibilitychange", look);
  look();
  return () => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", look);
  };
}
