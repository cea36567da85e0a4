// The open chat: its head, its messages, and what has to be said about them.
import { html } from "htm/preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { manage } from "../scroll.js";
import { current, dialog, drawer, live, messages, older, opening, problem } from "../state.js";
import { loadOlder, trim } from "../store.js";
import { wake } from "../stream.js";
import { dayAndTime, dayKey, nameOf, say } from "../words.js";
import { Composer } from "./composer.js";
import { Message } from "./message.js";
import { NotReady } from "./model.js";
import { Icon, IconButton, Menu } from "./parts.js";
import { actsOf, newChat } from "./sidebar.js";

export function Chat() {
  const scroll = useRef(null);
  return html`<main class="chat"><${Head} /><${Messages} scroll=${scroll} /><${Composer} scroll=${scroll} /></main>`;
}

function Head() {
  const chat = current.value;
  const name = chat.isNew ? say("newChat") : nameOf(chat);
  const isKept = messages.value.some((one) => one.id);
  useEffect(() => {
    document.title = chat.isNew ? "self_agent" : `${name} · self_agent`;
  }, [name, chat.isNew]);
  return html`<header class="top">
    <${IconButton} class="menu" icon="menu" label=${say("chats")} aria-expanded=${drawer.value ? "true" : "false"} onClick=${() => (drawer.value = true)} />
    <h1 title=${name}>${name}</h1><span class="gap"></span>
    <button type="button" class=${chat.system_prompt ? "pill set" : "pill"} aria-label=${say("instructions")} title=${chat.system_prompt || say("instructions")}
      onClick=${() => (dialog.value = { kind: "instructions" })}><${Icon} name="text" /><span class="wide">${say("instructions")}</span></button>
    ${isKept && html`<${Menu} label=${say("moreAbout", { name })} title=${say("more")} items=${() => actsOf(current.value)} />`}
    <${IconButton} class="menu" icon="write" label=${say("newChat")} title=${say("newChatKey")} onClick=${newChat} />
  </header>`;
}

const drawn = new WeakMap(); // message -> its element for Preact, which passes over what is the same as before
const draw = (message) => {
  if (!drawn.has(message)) drawn.set(message, html`<${Message} key=${message.key} message=${message} />`);
  return drawn.get(message);
};

function Messages({ scroll }) {
  const scroller = useRef();
  const column = useRef();
  const shown = messages.value;
  const { id, isNew } = current.value;
  scroll.current?.hold(); // before Preact changes anything below

  useEffect(() => {
    scroll.current = manage(scroller.current, column.current, { onTop: loadOlder, onEnd: trim });
    return () => scroll.current.end();
  }, []);
  useLayoutEffect(() => scroll.current?.toEnd(), [id]);
  useLayoutEffect(() => scroll.current?.release(), [shown]);

  const rows = [];
  let day = null;
  for (const message of shown) {
    const key = message.timestamp ? dayKey(message.timestamp) : day;
    if (key !== day) rows.push(html`<div class="day" key=${`day ${key} ${message.key}`}>${dayAndTime(message.timestamp)}</div>`);
    day = key;
    rows.push(draw(message));
  }
  const isEmpty = !shown.length && !opening.value && !problem.value;
  return html`<section class="scroll" ref=${scroller} aria-label=${say("messages")} tabindex="0">
    <div class="col" ref=${column}>
      ${older.value && html`<p class="older" key="older">${say("older")}</p>`}
      ${isEmpty && html`<${Greeting} key="greeting" />`}
      ${rows}
      <${Notice} key="notice" />
    </div>
    <${ToNewest} scroll=${scroll} scroller=${scroller} column=${column} />
  </section>`;
}

const Greeting = () => html`<div class="greeting"><i></i><h2>${say("greeting")}</h2><p>${say("greetingMore")}</p><${NotReady} /></div>`;

/** What went wrong, and what is done about it. */
function Notice() {
  const { phase, until } = live.value;
  if (phase === "lost") return html`<${Lost} until=${until} />`;
  if (!problem.value) return null;
  const { what, remedy, detail, retry } = problem.value;
  const again = () => {
    problem.value = null;
    retry();
  };
  return html`<div class="notice bad" role="alert"><${Icon} name="warn" />
    <div><b>${what}</b>${detail && html`<span class="detail">${detail}</span>`}<span>${remedy}</span></div>
    ${retry && html`<button type="button" class="pill" onClick=${again}>${say("tryAgain")}</button>`}
    <${IconButton} icon="cross" label=${say("dismiss")} onClick=${() => (problem.value = null)} /></div>`;
}

function Lost({ until }) {
  const seconds = useRef();
  useEffect(() => {
    const count = () => {
      if (!seconds.current) return;
      const left = Math.ceil((until - Date.now()) / 1000);
      seconds.current.textContent = left > 0 ? say("retryIn", { seconds: left }) : say("retrying");
    };
    count();
    const timer = setInterval(count, 500);
    return () => clearInterval(timer);
  }, [until]);
  return html`<div class="notice" role="status"><${Icon} name="warn" />
    <div><b>${say("lost")}</b><span ref=${seconds} aria-hidden="true"></span></div>
    <button type="button" class="pill" onClick=${wake}>${say("tryNow")}</button></div>`;
}

/** A button to the end, where that is out of sight. */
function ToNewest({ scroll, scroller, column }) {
  const button = useRef();
  const end = useRef();
  useEffect(() => {
    const seen = new IntersectionObserver((entries) => (button.current.hidden = entries.at(-1).isIntersecting), {
      root: scroller.current, rootMargin: "64px",
    });
    seen.observe(end.current);
    return () => seen.disconnect();
  }, []);
  return html`<i class="end" ref=${end}></i>
    <button type="button" class="down" ref=${button} hidden aria-label=${say("toNewest")} title=${say("toNewest")}
      onClick=${() => scroll.current.toEnd()}><${Icon} name="down" /></button>`;
}
