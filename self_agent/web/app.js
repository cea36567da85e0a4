// Starts the page: what is on it, what the address says, what keeps running.
import { effect } from "@preact/signals";
import { html } from "htm/preact";
import { render } from "preact";
import { followList, leaveDeleted } from "./chats.js";
import * as health from "./health.js";
import { listen } from "./keys.js";
import { stop } from "./replies.js";
import { route } from "./route.js";
import { current, drawer, editing, live } from "./state.js";
import { lookAgain, show } from "./store.js";
import { wake } from "./stream.js";
import { Chat } from "./view/chat.js";
import { Windows } from "./view/instructions.js";
import { newChat, Sidebar } from "./view/sidebar.js";
import { Announcer, Toasts } from "./view/toast.js";
import { TokenWindow } from "./view/token.js";
import { say } from "./words.js";

function Page() {
  return html`
    <a class="skip" href="#field" onClick=${(event) => (event.preventDefault(), document.getElementById("field").focus())}>${say("skip")}</a>
    <${Sidebar} />
    <div class="shade" onClick=${() => (drawer.value = false)}></div>
    <${Chat} />
    <${Windows} /><${TokenWindow} /><${Toasts} /><${Announcer} />`;
}

/** What happened to a chat somewhere: in this tab, in another one, on another device. */
function news(type, id) {
  if (type === "connected") wake();
  if (type === "connected" || type === "lost") health.look();
  if (type === "deleted" && id === route.value) leaveDeleted();
  else if (type === "connected" || id === current.value.id) lookAgain();
}

function escape() {
  if (editing.value) editing.value = null;
  else if (drawer.value) drawer.value = false;
  else if (live.value.phase !== "idle") stop();
}

/** iOS shrinks only the visual viewport for its keyboard; the page follows, so that one sees what one types. */
function followKeyboard() {
  const view = window.visualViewport;
  const fit = () => document.documentElement.style.setProperty("--height", view.height < innerHeight - 60 ? `${view.height}px` : "100dvh");
  view?.addEventListener("resize", fit);
}

effect(() => document.body.classList.toggle("show-list", drawer.value));
effect(() => {
  const id = route.value;
  if (id === null || id !== current.peek().id) queueMicrotask(() => show(id)); // else a new chat has got its address
});
render(html`<${Page} />`, document.getElementById("app"));
listen({ newChat, escape });
followKeyboard();
followList(news);
health.watch();
health.listModels().catch(() => {}); // asked for again when the menu is opened
