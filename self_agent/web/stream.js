// One reply from its first event to its last, over as many connections as it takes.
import { Refusal } from "./api.js";
import { events } from "./sse.js";

const FIRST_PAUSE = 500; // ms; doubled up to
const LONGEST_PAUSE = 15_000;
const MAY_PASS = new Set([0, 429, 502, 503, 504]); // of a rejoin: a proxy or a server that is just starting

/**
 * Follow a reply until it ends; return how: "done", "error", "gone" (nothing to follow: read the chat) or "left".
 *
 * `open(signal)` starts it, `join(after, signal)` goes on behind an event; both return a Response. `take(event)` gets
 * each event once. `tell(phase, until)` is told "connecting", "answering" and "lost". Throws a Refusal of `open`.
 */
export async function followReply({ open, join, take, tell, signal }) {
  let after = null; // the number of the last event: opaque, only handed back; null before the first
  let pause = FIRST_PAUSE;
  for (;;) {
    try {
      if (after === null && pause === FIRST_PAUSE) tell("connecting");
      const response = after === null ? await open(signal) : await join(after, signal);
      if (response.status === 204) return "gone";
      tell("answering");
      for await (const { id, data } of events(response)) {
        const event = JSON.parse(data);
        after = id ?? after ?? 0;
        pause = FIRST_PAUSE;
        take(event);
        if (event.type === "done" || event.type === "error") return event.type;
        if (signal.aborted) return "left";
      }
    } catch (error) {
      if (signal.aborted) return "left";
      if (error instanceof Refusal && !(after === null ? error.status === 0 : MAY_PASS.has(error.status))) {
        if (after === null) throw error;
        return "gone";
      }
    }
    if (signal.aborted) return "left";
    const wait = pause * (0.75 + Math.random() / 2); // not all tabs at once
    tell("lost", Date.now() + wait);
    await rest(wait, signal);
    pause = Math.min(2 * pause, LONGEST_PAUSE);
  }
}

/** Wait; shorter when the network or the reader comes back, or `wake` is called. */
export function rest(ms, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      for (const [target, name] of WAKERS) target.removeEventListener(name, end);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    for (const [target, name] of WAKERS) target.addEventListener(name, end);
    signal?.addEventListener("abort", end);
  });
}

const waker = new EventTarget();
const WAKERS = [[window, "online"], [window, "pageshow"], [document, "visibilitychange"], [waker, "wake"]];

/** Try again now whatever waits. */
export const wake = () => waker.dispatchEvent(new Event("wake"));
