// Server-sent events: bytes in, events out. Not `EventSource`, which can send neither a body nor a token.

const SILENCE = 25_000; // ms; the server says something at least every 10 s, so a longer silence is a dead connection

/** Return a function that takes text as it comes and returns the events that are complete: `{ id, data }`. */
export function parser() {
  let rest = "";
  let event = { id: null, data: [] };
  return (text) => {
    const found = [];
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const [, name, value] = /^(\w*):? ?(.*?)\r?$/.exec(line) ?? [];
      if (name === "id") event.id = value;
      else if (name === "data") event.data.push(value);
      else if (!name && !value && event.data.length) {
        found.push({ id: event.id, data: event.data.join("\n") });
        event = { id: null, data: [] };
      }
    }
    return found;
  };
}

/** Yield the events of an answer. Throws when the connection breaks or falls silent; returns when it is closed. */
export async function* events(response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const parse = parser();
  let why = "";
  const silence = watchSilence((reason) => {
    why = reason;
    reader.cancel().catch(() => {}); // which ends the read that waits
  });
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (why) throw new Error(why);
      if (done) return;
      silence.heard();
      yield* parse(decoder.decode(value, { stream: true }));
    }
  } finally {
    silence.end();
    reader.cancel().catch(() => {}); // whoever leaves the loop leaves the connection
  }
}

/** Call `act` with the reason when nothing has been `heard` for too long, also while the computer slept, or the network changed. */
function watchSilence(act) {
  let last = Date.now();
  const look = () => Date.now() - last > SILENCE && act("silent");
  const moved = () => act("another network");
  const timer = setInterval(look, 2000);
  document.addEventListener("visibilitychange", look);
  addEventListener("online", moved);
  return {
    heard: () => (last = Date.now()),
    end() {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", look);
      removeEventListener("online", moved);
    },
  };
}
