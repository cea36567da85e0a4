// Windows above the page: a chat's instructions and its name, and the keys.
import { html } from "htm/preact";
import { useRef } from "preact/hooks";
import { rename } from "../chats.js";
import { current, dialog } from "../state.js";
import { configure } from "../store.js";
import { sends } from "../keys.js";
import { say } from "../words.js";
import { Dialog } from "./parts.js";

const close = () => (dialog.value = null);

function Instructions() {
  const field = useRef();
  const save = async () => {
    if (await configure({ system_prompt: field.current.value.trim() || null })) close();
  };
  return html`<${Dialog} title=${say("instructions")}>
    <p id="instructions-about">${say("instructionsAbout")}</p>
    <textarea ref=${field} rows="7" aria-label=${say("instructions")} aria-describedby="instructions-about"
      placeholder=${say("instructionsHint")} onKeyDown=${(event) => (event.ctrlKey || event.metaKey) && sends(event) && save()}>${current.value.system_prompt ?? ""}</textarea>
    <footer><button type="button" class="pill" onClick=${close}>${say("cancel")}</button>
      <button type="button" class="main" onClick=${save}>${say("save")}</button></footer><//>`;
}

function Rename({ id, name }) {
  const field = useRef();
  const save = () => {
    const text = field.current.value.trim();
    close();
    if (text !== name) rename(id, text);
  };
  return html`<${Dialog} title=${say("renameTitle")}>
    <input type="text" ref=${field} value=${name} maxlength="500" aria-label=${say("name")}
      onKeyDown=${(event) => event.key === "Enter" && !event.isComposing && event.keyCode !== 229 && (event.preventDefault(), save())} />
    <footer><button type="button" class="pill" onClick=${close}>${say("cancel")}</button>
      <button type="button" class="main" onClick=${save}>${say("save")}</button></footer><//>`;
}

function Shortcuts() {
  const rows = [
    ["Enter", "shortcutSend"], ["Shift + Enter", "shortcutBreak"], ["Esc", "shortcutStop"], ["Ctrl / ⌘ + K", "shortcutNew"], ["↑", "shortcutEdit"],
  ];
  return html`<${Dialog} title=${say("shortcuts")}><dl class="keys">
    ${rows.map(([key, words]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${say(words)}</dd></div>`)}</dl><//>`;
}

const KINDS = { instructions: Instructions, rename: Rename, shortcuts: Shortcuts };

/** The window that is open, if one is. */
export function Windows() {
  const shown = dialog.value;
  return shown && html`<${KINDS[shown.kind]} key=${shown.kind} ...${shown} />`;
}
