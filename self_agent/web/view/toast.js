// Short messages that leave by themselves, but not while somebody is at them.
import { html } from "htm/preact";
import { useEffect, useRef } from "preact/hooks";
import { dismiss } from "../notices.js";
import { said, toasts } from "../state.js";
import { say } from "../words.js";
import { IconButton } from "./parts.js";

export function Toasts() {
  return html`<div class="toasts" role="status">${toasts.value.map((toast) => html`<${Toast} key=${toast.key} toast=${toast} />`)}</div>`;
}

function Toast({ toast }) {
  const timer = useRef();
  const start = () => (timer.current = setTimeout(() => dismiss(toast), toast.lasts));
  const halt = () => clearTimeout(timer.current);
  useEffect(() => (start(), halt), []);
  const act = () => {
    dismiss(toast);
    toast.act();
  };
  return html`<div class=${toast.isError ? "toast bad" : "toast"} onMouseEnter=${halt} onMouseLeave=${start} onFocusIn=${halt} onFocusOut=${start}>
    <span>${toast.text}</span>
    ${toast.act && html`<button type="button" class="link" onClick=${act}>${toast.label}</button>`}
    <${IconButton} icon="cross" label=${say("dismiss")} onClick=${() => dismiss(toast)} /></div>`;
}

/** What a screen reader says, once. */
export const Announcer = () => html`<div class="unseen" aria-live="polite">${said.value}</div>`;
