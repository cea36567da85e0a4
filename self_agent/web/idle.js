// Work that may wait: run in idle time, a few milliseconds at once.

const SLICE = 8; // milliseconds; one task may take longer, but no second one begins then
const waiting = [];
const whenIdle = globalThis.requestIdleCallback ?? ((run) => setTimeout(run, 1)); // Safari has none

/** Run the task when nothing else is to be done; tasks run in the order in which they came. */
export function later(task) {
  if (waiting.push(task) === 1) whenIdle(run, { timeout: 1000 });
}

function run() {
  const end = performance.now() + SLICE;
  while (waiting.length && performance.now() < end) {
    try {
      waiting[0]();
    } catch (error) {
      console.warn(error);
    }
    waiting.shift(); // only now, so that what comes meanwhile does not ask for a second turn
  }
  if (waiting.length) whenIdle(run, { timeout: 1000 });
}
