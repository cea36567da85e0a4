// What has been typed and not yet been accepted, for each chat; it survives a reload, a crash and a 401.

const PREFIX = "self_agent.draft.";
const KEPT = 100; // chats
const NEW = "self_agent.new"; // in sessionStorage: the id that this tab's next chat will have

export function draftOf(id) {
  return stored(() => JSON.parse(localStorage.getItem(PREFIX + id) ?? "null")?.text) ?? "";
}

export function keepDraft(id, text) {
  stored(() => {
    if (!text.trim()) return localStorage.removeItem(PREFIX + id);
    localStorage.setItem(PREFIX + id, JSON.stringify({ text, at: Date.now() }));
    forgetOldest();
  });
}

/** The server has this text now; what has been typed since stays. */
export function acceptDraft(id, text) {
  if (draftOf(id) === text) keepDraft(id, "");
}

/** Somebody else is to use this browser. */
export function forgetDrafts() {
  takeNewId();
  stored(() => Object.keys(localStorage).filter((key) => key.startsWith(PREFIX)).forEach((key) => localStorage.removeItem(key)));
}

/** The id of a chat that is yet to be written: this tab's own, the same after a reload. */
export function newId() {
  const id = stored(() => sessionStorage.getItem(NEW)) || randomId();
  stored(() => sessionStorage.setItem(NEW, id));
  return id;
}

export const takeNewId = () => stored(() => sessionStorage.removeItem(NEW));

/** 20 letters and digits; `crypto.randomUUID` is missing where the page comes by plain http from another computer. */
export function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(20));
  return Array.from(bytes, (byte) => "abcdefghijkmnpqrstuvwxyz23456789"[byte % 32]).join("");
}

function forgetOldest() {
  const keys = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
  if (keys.length <= KEPT) return;
  const age = (key) => JSON.parse(localStorage.getItem(key)).at;
  keys.sort((one, other) => age(one) - age(other));
  for (const key of keys.slice(0, keys.length - KEPT)) localStorage.removeItem(key);
}

function stored(act) {
  try {
    return act();
  } catch {
    return undefined; // storage is full or switched off: the draft lives as long as the page
  }
}
