// One message: a question in its bubble, or a reply with what belongs to it.
import { html } from "htm/preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { sends } from "../keys.js";
import { notify } from "../notices.js";
import { editing, live, said } from "../state.js";
import { choose, fork, regenerate, send } from "../store.js";
import { say, timeOf, wholeTime } from "../words.js";
import { Body, Reasoning } from "./body.js";
import { IconButton } from "./parts.js";

export const Message = ({ message }) => (message.role === "user" ? html`<${Question} message=${message} />` : html`<${Reply} message=${message} />`);

function Question({ message }) {
  const bubble = useRef();
  if (message.id && editing.value === message.id) return html`<${Edit} message=${message} />`;
  return html`<article class="mine" aria-label=${say("you")}>
    <div class="bubble" ref=${bubble} dir="auto">${message.content}</div>
    <div class="acts">${message.id && html`
      <${Leaf} message=${message} />
      <${Copy} message=${message} shown=${bubble} />
      ${live.value.phase === "idle" && html`<${IconButton} icon="write" label=${say("edit")} onClick=${() => (editing.value = message.id)} />
      <${IconButton} icon="fork" label=${say("fork")} onClick=${() => fork(message)} />`}
      <${Info} message=${message} />`}
    </div>
  </article>`;
}

function Reply({ message }) {
  const body = useRef();
  const { growing, incomplete, error, sources } = message;
  const isWaiting = growing && !message.begun;
  return html`<article class="theirs" aria-label=${say("reply")} aria-busy=${growing ? "true" : undefined}>
    <${Reasoning} message=${message} />
    <${Body} message=${message} element=${body} />
    ${isWaiting && html`<p class="waits"><i></i><i></i><i></i><span class="unseen">${say("waiting")}</span></p>`}
    ${sources?.length > 0 && html`<${Sources} sources=${sources} />`}
    ${!growing && (incomplete || error) && html`<p class="cut-off">${say("stopped")}${error && ` (${error})`}</p>`}
    ${!growing && message.id && html`<div class="acts">
      <${Leaf} message=${message} />
      <${Copy} message=${message} shown=${body} />
      ${live.value.phase === "idle" && html`<${IconButton} icon="again" label=${say("regenerate")} onClick=${() => regenerate(message)} />
      <${IconButton} icon="fork" label=${say("fork")} onClick=${() => fork(message)} />`}
      <${Info} message=${message} />
    </div>`}
  </article>`;
}

/** ‹ 2 / 3 ›: the alternatives to a message. */
function Leaf({ message }) {
  const { id, siblings } = message;
  if (!(siblings?.length > 1)) return null;
  const at = siblings.indexOf(id);
  const to = (step) => () => choose(message, siblings[at + step]);
  const isBusy = live.value.phase !== "idle";
  return html`<span class="leaf" role="group" aria-label=${say("positionLabel", { at: at + 1, of: siblings.length })}>
    <${IconButton} icon="left" label=${say("earlierReply")} disabled=${isBusy || at < 1} onClick=${to(-1)} />
    <span>${say("position", { at: at + 1, of: siblings.length })}</span>
    <${IconButton} icon="right" label=${say("laterReply")} disabled=${isBusy || at === siblings.length - 1} onClick=${to(1)} /></span>`;
}

/** Copies the text as it was written; where the browser forbids it (plain http), selects what is shown and says so. */
function Copy({ message, shown }) {
  const [isDone, setDone] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(message.content);
      setDone(true);
      said.value = say("copied");
      setTimeout(() => setDone(false), 2000);
    } catch {
      getSelection().selectAllChildren(shown.current);
      notify(say("copyFailed"));
    }
  };
  return html`<${IconButton} icon=${isDone ? "tick" : "copy"} label=${isDone ? say("copied") : say("copy")} onClick=${copy} />`;
}

/** Model, tokens, time: beside the buttons where there is room, else when asked for. */
function Info({ message }) {
  const [isOpen, setOpen] = useState(false);
  const { model, usage, timestamp, role, edited_at: edited } = message;
  const output = usage?.completion_tokens ?? usage?.total_tokens;
  const both = usage?.prompt_tokens != null && usage?.completion_tokens != null;
  const parts = [model, output != null && say("tokens", { count: output }), edited && say("edited"), timestamp && timeOf(timestamp)].filter(Boolean);
  if (!parts.length) return null;
  const whole = [timestamp && wholeTime(timestamp), both && say("tokensOf", { input: usage.prompt_tokens, output: usage.completion_tokens })].filter(Boolean).join("\n");
  return html`${role !== "user" && html`<${IconButton} class="narrow" icon="info" label=${say("details")} aria-expanded=${isOpen ? "true" : "false"} onClick=${() => setOpen(!isOpen)} />`}
    <span class=${isOpen ? "info open" : "info"} title=${whole}>${parts.join(" · ")}</span>`;
}

function Sources({ sources }) {
  const host = (url) => (URL.canParse(url) ? new URL(url).host : url);
  const isWeb = (url) => /^https?:\/\//i.test(url ?? "");
  return html`<ol class="sources" aria-label=${say("sources")}>${sources.map((source, at) => {
    const name = source.title || source.name || host(source.url ?? "");
    const inside = html`<b>${at + 1}</b><span>${name}</span>`;
    return html`<li>${isWeb(source.url)
      ? html`<a class="source" href=${source.url} title=${host(source.url)} target="_blank" rel="noopener noreferrer">${inside}</a>`
      : html`<span class="source">${inside}</span>`}</li>`;
  })}</ol>`;
}

/** A question that is being rewritten: sent again it begins another branch, and the old one stays. */
function Edit({ message }) {
  const field = useRef();
  useLayoutEffect(() => {
    field.current.focus({ preventScroll: true });
    field.current.setSelectionRange(message.content.length, message.content.length);
    field.current.scrollIntoView({ block: "nearest" });
  }, []);
  const leave = () => {
    editing.value = null;
    document.getElementById("field")?.focus({ preventScroll: true });
  };
  const submit = () => {
    const text = field.current.value;
    if (!text.trim()) return;
    if (live.value.phase !== "idle") return notify(say("busy"));
    leave();
    send(text, message.parent ?? 0);
  };
  const onKeyDown = (event) => {
    if (sends(event)) {
      event.preventDefault();
      submit();
    } else if (event.key === "Escape" && !event.isComposing) {
      event.stopPropagation();
      leave();
    }
  };
  return html`<article class="mine editing" aria-label=${say("you")}>
    <div class="box"><textarea ref=${field} aria-label=${say("editLabel")} onKeyDown=${onKeyDown}>${message.content}</textarea>
      <div class="row"><span class="gap"></span>
        <button type="button" class="pill" onClick=${leave}>${say("cancel")}</button>
        <button type="button" class="main" onClick=${submit}>${say("sendAgain")}</button></div></div></article>`;
}
