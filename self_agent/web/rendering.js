// Markdown's modules are half of the page's weight and are not needed to show its frame: they come behind it.
import { signal } from "@preact/signals";
import { complain } from "./notices.js";

export const renderer = signal(null); // { renderMarkdown, Blocks }, once they are there

/** Resolves when messages can be shown. */
export const ready = Promise.all([import("./render.js"), import("./blocks.js")])
  .then(([{ renderMarkdown }, { Blocks }]) => (renderer.value = { renderMarkdown, Blocks }))
  .catch(complain);
