// The server's routes. Every failure leaves here as a `Refusal`; a missing token is asked for, and the request sent again.
import { tokenWanted } from "./state.js";

const ROOT = "/api/v1";
const TOKEN = "self_agent.token"; // in sessionStorage: it ends with the tab

/** Thrown when a request was refused (`status`) or the server was not reached (`status` 0). `words` are the server's. */
export class Refusal extends Error {
  constructor(status, words = "", retryAfter = 0) {
    super(words || String(status));
    Object.assign(this, { status, words, retryAfter });
  }
}

let token = remembered();
let waiting = null; // the promise of a token, while somebody is asked for it

function remembered() {
  try {
    return sessionStorage.getItem(TOKEN) || "";
  } catch {
    return ""; // storage is switched off: the token lives as long as the page
  }
}

export const hasToken = () => token !== "";

/** Use this token from now on; an empty one forgets it. */
export function giveToken(text) {
  token = text.trim();
  try {
    token ? sessionStorage.setItem(TOKEN, token) : sessionStorage.removeItem(TOKEN);
  } catch {
    // as above
  }
  tokenWanted.value = null;
  waiting?.resolve();
  waiting = null;
}

function askForToken(used) {
  if (used !== token) return Promise.resolve(); // given meanwhile
  if (!waiting) {
    waiting = {};
    waiting.promise = new Promise((resolve) => (waiting.resolve = resolve));
    tokenWanted.value = { refused: token !== "" };
  }
  return waiting.promise;
}

/** Send a request and return the Response, its status below 300. Throws Refusal, or the signal's reason. */
export async function open(method, path, { body, file, key, signal } = {}) {
  for (;;) {
    const used = token;
    const response = await attempt(method, path, { body, file, key, signal, token: used });
    if (response.ok) return response;
    if (response.status === 401 && (await isOurToken(path, used, signal))) {
      await askForToken(used);
      signal?.throwIfAborted();
      continue;
    }
    throw await refusal(response);
  }
}

async function attempt(method, path, { body, file, key, signal, token }) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined || file) headers["Content-Type"] = file?.type || "application/json";
  if (key) headers["Idempotency-Key"] = key;
  try {
    return await fetch(path, { method, headers, signal, body: file ?? (body && JSON.stringify(body)) });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal(0);
  }
}

/** A 401 can also be the model's server refusing its key; a route that never asks a model tells them apart. */
async function isOurToken(path, used, signal) {
  if (!/\/(messages|regenerate|models)/.test(path)) return true;
  const probe = await attempt("GET", `${ROOT}/conversations/?size=1`, { signal, token: used });
  return probe.status === 401;
}

async function refusal(response) {
  const body = await response.json().catch(() => null);
  const words = body?.data?.error ?? body?.error?.message ?? body?.error ?? "";
  return new Refusal(response.status, String(words), Number(response.headers.get("Retry-After")) || 0);
}

async function ask(method, path, options) {
  const response = await open(method, ROOT + path, options);
  return response.status === 204 ? null : response.json();
}

const chat = (id) => `/conversations/${encodeURIComponent(id)}`;
const data = (answer) => answer.data;

// --- the list
export function headings({ page, size, q, archived }) {
  const search = new URLSearchParams({ view: "headings", page, size });
  if (q) search.set("q", q);
  if (archived) search.set("archived", "true");
  return ask("GET", `/conversations/?${search}`);
}
export const change = (id, changes) => ask("PATCH", chat(id), { body: changes }).then(data);
export const remove = (id) => ask("DELETE", chat(id));
export const restore = (id) => ask("POST", `${chat(id)}/restore`).then(data);
export const followList = (signal) => open("GET", `${ROOT}/events`, { signal });
export const takeIn = (file) => ask("POST", "/import", { file }).then(data);

// --- a chat
export function read(id, { size, before, signal }) {
  const search = new URLSearchParams({ view: "full", size });
  if (before) search.set("before", before);
  return ask("GET", `${chat(id)}?${search}`, { signal }).then(data);
}
export const send = (id, body, key, signal) =>
  open("POST", `${ROOT}${chat(id)}/messages/stream`, { body, key, signal });
export const regenerate = (id, message, body, key, signal) =>
  open("POST", `${ROOT}${chat(id)}/messages/${message}/regenerate/stream`, { body, key, signal });
export const join = (id, after, signal) =>
  open("GET", `${ROOT}${chat(id)}/stream${after == null ? "" : `?after=${encodeURIComponent(after)}`}`, { signal });
export const stop = (id) => ask("POST", `${chat(id)}/stop`);
export const choose = (id, message) => ask("POST", `${chat(id)}/choose`, { body: { message_id: message } }).then(data);
export const fork = (id, message) => ask("POST", `${chat(id)}/fork`, { body: { message_id: message } }).then(data);
/** Make the chat exist before its first message, so that it can be given instructions. */
export const prepare = (id) => ask("POST", `${chat(id)}/set_config`, { body: {} });
export const exported = (id, format) =>
  open("GET", `${ROOT}${id ? `${chat(id)}/export?format=${format}` : "/export"}`).then((response) => response.blob());

// --- the server
export const models = () => ask("GET", "/models").then(data);
export const healthz = () => open("GET", "/healthz").then((response) => response.json());
