// The keyboard: what a key means where one types, and the shortcuts of the whole page.

const coarse = matchMedia("(pointer: coarse)");

/** True while an input method composes: its Enter chooses a word. Safari ends the composition first, but says 229. */
export const composes = (event) => event.isComposing || event.keyCode === 229;

/** True for the Enter that sends. On a touch screen it breaks the line, as in every other app there; Ctrl sends. */
export function sends(event) {
  if (event.key !== "Enter" || composes(event)) return false;
  return event.ctrlKey || event.metaKey || (!event.shiftKey && !event.altKey && !coarse.matches);
}

export const isTouch = () => coarse.matches;

const above = () => document.querySelector(":popover-open, dialog[open]");

/** Call `acts.newChat` for Ctrl or Cmd K and `acts.escape` for an Esc that nothing above the page takes. */
export function listen(acts) {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || composes(event)) return;
    if ((event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && event.key.toLowerCase() === "k") {
      if (document.querySelector("dialog[open]")) return;
      event.preventDefault();
      acts.newChat();
    } else if (event.key === "Escape" && !above()) acts.escape();
  });
}
