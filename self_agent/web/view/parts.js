// Small parts that many views are made of: icons, buttons, menus, dialogs.
import { html } from "htm/preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { dialog } from "../state.js";
import { say } from "../words.js";

export const Icon = ({ name }) => html`<svg aria-hidden="true"><use href=${`#${name}`} /></svg>`;

/** A button that shows only an icon; its label is read out and shown as a hint. */
export const IconButton = ({ icon, label, title = label, class: more = "", ...rest }) => html`
  <button type="button" class=${`icon ${more}`} aria-label=${label} title=${title} ...${rest}><${Icon} name=${icon} /></button>`;

/**
 * A button that opens a menu. `items()` gives, when it opens, `{ label, icon, act, checked, isDanger }`, or a string
 * for words in between. The browser closes it for a click elsewhere and for Esc (`popover`).
 */
export function Menu({ label, items, class: className = "icon", children, title = label }) {
  const button = useRef();
  const menu = useRef();
  const [shown, setShown] = useState(null);

  function open() {
    if (shown) return menu.current.hidePopover();
    return setShown(items());
  }
  useLayoutEffect(() => {
    if (!shown) return;
    menu.current.showPopover();
    place(menu.current, button.current);
    (menu.current.querySelector("[aria-checked=true]") ?? menu.current.querySelector("button"))?.focus();
  }, [shown]);

  function toggled(event) {
    if (event.newState !== "closed") return;
    const hadFocus = menu.current?.contains(document.activeElement) || document.activeElement === document.body;
    setShown(null);
    if (hadFocus) button.current?.focus();
  }
  function choose(item) {
    menu.current.hidePopover();
    item.act();
  }
  return html`
    <button type="button" class=${className} ref=${button} aria-label=${label} title=${title} aria-haspopup="menu"
      aria-expanded=${shown ? "true" : "false"} onClick=${open}>${children ?? html`<${Icon} name="more" />`}</button>
    ${shown && html`<div class="popup" role="menu" popover="auto" ref=${menu} aria-label=${label} onToggle=${toggled} onKeyDown=${walk}>
      ${shown.map((item) => typeof item === "string"
        ? html`<p role="presentation">${item}</p>`
        : html`<button type="button" role=${item.checked === undefined ? "menuitem" : "menuitemradio"} tabindex="-1"
            aria-checked=${item.checked === undefined ? undefined : String(item.checked)} class=${item.isDanger ? "danger" : ""}
            onClick=${() => choose(item)}>
            ${item.checked === undefined ? item.icon && html`<${Icon} name=${item.icon} />` : html`<span class="mark">${item.checked && html`<${Icon} name="tick" />`}</span>`}
            <span>${item.label}</span></button>`)}
    </div>`}`;
}

/** Arrow keys walk through a menu. */
function walk(event) {
  const items = [...event.currentTarget.querySelectorAll("button")];
  const at = items.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
  if (event.key === "Tab") event.currentTarget.hidePopover();
  if (to === undefined) return;
  event.preventDefault();
  items.at(to % items.length)?.focus();
}

/** Put a menu below its button, or above it, and within the window. */
function place(menu, button) {
  const at = button.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = menu;
  const below = at.bottom + 6;
  const top = below + height > innerHeight - 8 ? Math.max(8, at.top - height - 6) : below;
  const left = Math.min(Math.max(8, at.right - width > 8 && at.left + width > innerWidth - 8 ? at.right - width : at.left), innerWidth - width - 8);
  Object.assign(menu.style, { top: `${top}px`, left: `${left}px` });
}

/** A window above the page; Esc and the cross close it unless it `mustStay`. */
export function Dialog({ title, children, mustStay = false, onClose = () => (dialog.value = null) }) {
  const element = useRef();
  useEffect(() => {
    element.current.showModal();
    const focus = element.current.querySelector("[autofocus], input, textarea");
    focus?.focus();
    focus?.select?.();
  }, []);
  // Chromium closes for the second Esc even what refused the first one, so the key itself is taken.
  const onKeyDown = (event) => mustStay && event.key === "Escape" && event.preventDefault();
  return html`<dialog ref=${element} aria-labelledby="dialog-title" onKeyDown=${onKeyDown}
      onCancel=${(event) => mustStay && event.preventDefault()} onClose=${onClose}
      onClick=${(event) => !mustStay && event.target === element.current && element.current.close()}>
    <div class="window">
      <header><h2 id="dialog-title">${title}</h2>
        ${!mustStay && html`<${IconButton} icon="cross" label=${say("close")} onClick=${() => element.current.close()} />`}</header>
      ${children}
    </div></dialog>`;
}
