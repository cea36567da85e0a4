// The text of the reply that is growing. Tokens come in here and go to the DOM past signals and Preact.

let text = "";
let reasoning = "";
let began = 0;
const views = new Set(); // { content(delta), thinking(delta) } of what shows it

export function begin() {
  text = reasoning = "";
  began = performance.now();
}

export function add(type, delta) {
  if (type === "thinking") reasoning += delta;
  else text += delta;
  for (const view of views) view[type](delta);
}

/** Show all of it, now and as it comes; returns how to end that. */
export function watch(view) {
  views.add(view);
  if (reasoning) view.thinking(reasoning);
  if (text) view.content(text);
  return () => views.delete(view);
}

/** What has come, and for how many seconds it has. */
export const soFar = () => ({ text, reasoning, seconds: Math.max(1, Math.round((performance.now() - began) / 1000)) });
