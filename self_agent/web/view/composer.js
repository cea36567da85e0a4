// Where one types.
import { html } from "htm/preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { draftOf, keepDraft } from "../drafts.js";
import { composes, isTouch, sends } from "../keys.js";
import { notify } from "../notices.js";
import { stop } from "../replies.js";
import { current, editing, live, messages, returned } from "../state.js";
import { send } from "../store.js";
import { say } from "../words.js";
import { ModelChoice } from "./model.js";
import { Icon } from "./parts.js";

const growsByItself = CSS.supports("field-sizing", "content");

export function Composer({ scroll }) {
  const field = useRef();
  const isEmpty = useSignal(true);
  const { id } = current.value;
  const isBusy = live.value.phase !== "idle";

  const fill = (text) => {
    field.current.value = text;
    changed(field.current, isEmpty);
  };
  useLayoutEffect(() => {
    fill(draftOf(id));
    if (!isTouch()) field.current.focus({ preventScroll: true });
  }, [id]);
  useEffect(() => takeBack(id, field, fill), [returned.value]);

  const typed = () => {
    changed(field.current, isEmpty);
    keepDraft(id, field.current.value);
  };
  const submit = () => {
    const text = field.current.value;
    if (!text.trim()) return;
    if (isBusy) return notify(say("busy"));
    fill(""); // the draft stays until the server has it
    if (isTouch()) field.current.blur(); // else the keyboard covers the reply
    scroll.current.toEnd();
    send(text);
  };
  const onKeyDown = (event) => {
    if (sends(event)) {
      event.preventDefault();
      submit();
    } else if (event.key === "ArrowUp" && !field.current.value && !composes(event) && !isBusy) editLast(event);
  };
  return html`<footer class="foot">
    <div class="box" onClick=${(event) => event.target === event.currentTarget && field.current.focus()}>
      <textarea id="field" ref=${field} rows="1" dir="auto" aria-label=${say("message")} placeholder=${say("write")}
        enterkeyhint=${isTouch() ? "enter" : "send"} onInput=${typed} onKeyDown=${onKeyDown}></textarea>
      <div class="row"><${ModelChoice} /><span class="gap"></span>
        ${isBusy
          ? html`<button type="button" class="send" aria-label=${say("stop")} title=${say("stopKey")} onClick=${stop}><${Icon} name="stop" /></button>`
          : html`<button type="button" class="send" aria-label=${say("send")} title=${say("sendKey")} disabled=${isEmpty.value} onClick=${submit}><${Icon} name="up" /></button>`}
      </div></div>
    <p class="hint">${say("hint")}</p></footer>`;
}

/** The field is as high as its text; browsers without `field-sizing` are helped. */
function changed(field, isEmpty) {
  isEmpty.value = !field.value.trim();
  if (growsByItself) return;
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}

/** A question that the server did not keep comes back, in front of what has been typed since. */
function takeBack(id, field, fill) {
  const back = returned.value;
  if (!back) return;
  returned.value = null;
  const typed = back.id === id ? field.current.value : draftOf(back.id);
  const text = typed.trim() && typed !== back.text ? `${back.text}\n\n${typed}` : back.text;
  keepDraft(back.id, text);
  if (back.id === id) fill(text);
}

function editLast(event) {
  const last = messages.value.findLast((one) => one.role === "user" && one.id);
  if (!last) return;
  event.preventDefault();
  editing.value = last.id;
}
