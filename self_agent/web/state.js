// What the page shows, as signals. Whoever changes one of them says what happened; the views only read.
import { signal } from "@preact/signals";

// --- the list
export const chats = signal([]); // headings, as the server orders them: pinned first, then newest
export const list = signal({ state: "loading", more: false }); // "loading", "ready", "failed" (with `error`)
export const query = signal(""); // what is typed into the search
export const archive = signal(false); // the list shows what is archived

// --- the open chat
export const current = signal({ id: "", isNew: true }); // its heading, and `system_prompt`
export const messages = signal([]); // of the branch that is shown, oldest first; those in front are loaded on demand
export const older = signal(false); // there are messages in front of these
export const opening = signal(false); // its messages are being fetched
export const live = signal({ phase: "idle" }); // "idle", "connecting", "answering", "lost" (with `until`: the next try)
export const problem = signal(null); // what went wrong last: { words, retry? }
export const returned = signal(null); // { id, text } of a question that was not kept: back into the field with it
export const editing = signal(null); // the id of the question that is being edited

// --- the server
export const health = signal(null); // the `model` of /healthz, or { state: "unreachable" }
export const models = signal([]);
export const tokenWanted = signal(null); // { refused } while a token is asked for

// --- what lies above the page
export const dialog = signal(null); // { kind, … }
export const toasts = signal([]);
export const drawer = signal(false); // on a phone: the list is shown
export const said = signal(""); // read out once by a screen reader
