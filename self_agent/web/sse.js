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
export async function* events(response, silence = SILENCE) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const parse = parser();
  try {
    for (;;) {
      const { value, done } = await within(silence, reader.read());
      if (done) return;
      yield* parse(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => {}); // whoever leaves the loop leaves the connection
  }
}

function within(ms, promise) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error("silent")), ms)));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
