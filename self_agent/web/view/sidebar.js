// The list of chats, the search above it, the model's state below it.
import { html } from "htm/preact";
import { useEffect, useRef } from "preact/hooks";
import { hasToken, giveToken } from "../api.js";
import { bringIn, more, pin, refresh, remove, save, search, setArchived, showArchive } from "../chats.js";
import { forgetDrafts } from "../drafts.js";
import { addressOf, go, route } from "../route.js";
import { archive, chats, current, dialog, drawer, list, query } from "../state.js";
import { groupOf, nameOf, say } from "../words.js";
import { ModelState } from "./model.js";
import { Icon, IconButton, Menu } from "./parts.js";

/** What can be done to a chat, as items of a menu. */
export function actsOf(heading) {
  const id = heading.conversation_id ?? heading.id;
  const name = nameOf(heading);
  return [
    { label: say("rename"), icon: "write", act: () => (dialog.value = { kind: "rename", id, name }) },
    { label: say(heading.pinned ? "unpin" : "pin"), icon: "pin", act: () => pin(id, !heading.pinned) },
    { label: say(heading.archived ? "fromArchive" : "toArchive"), icon: "box", act: () => setArchived({ ...heading, conversation_id: id }, !heading.archived) },
    { label: say("exportMarkdown"), icon: "save", act: () => save(id, "markdown", `${fileName(name)}.md`) },
    { label: say("exportJson"), icon: "save", act: () => save(id, "json", `${fileName(name)}.json`) },
    { label: say("remove"), icon: "bin", isDanger: true, act: () => remove({ ...heading, conversation_id: id }) },
  ];
}

const fileName = (name) => name.replace(/[\\/:*?"<>|\s\p{Cc}]+/gu, " ").trim().slice(0, 80) || "chat";

export function newChat() {
  drawer.value = false;
  go(null);
  requestAnimationFrame(() => document.getElementById("field")?.focus());
}

export function Sidebar() {
  const isNarrow = useNarrow(drawer);
  return html`<nav class="side" aria-label=${say("chats")} inert=${isNarrow && !drawer.value}>
    <div class="brand"><i></i>self_agent
      <${IconButton} icon="write" label=${say("newChat")} title=${say("newChatKey")} onClick=${newChat} /></div>
    <label class="find"><${Icon} name="find" />
      <input type="search" placeholder=${say("search")} aria-label=${say("search")} value=${query.value} autocomplete="off"
        onInput=${(event) => search(event.target.value)} onKeyDown=${(event) => event.key === "Escape" && query.value && (event.stopPropagation(), search(""))} /></label>
    ${archive.value && html`<button type="button" class="back" onClick=${() => showArchive(false)}><${Icon} name="left" />${say("back")}</button>`}
    <${Chats} />
    <div class="state"><${ModelState} />
      <${Menu} label=${say("settings")} items=${settings}><${Icon} name="gear" /><//></div>
  </nav>`;
}

/** On a phone the list is a drawer: whether it is one now. */
function useNarrow() {
  const narrow = useRef(matchMedia("(max-width: 760px)")).current;
  useEffect(() => {
    const close = () => (drawer.value = false);
    narrow.addEventListener("change", close);
    return () => narrow.removeEventListener("change", close);
  }, []);
  return narrow.matches;
}

const settings = () => [
  { label: say("archived"), icon: "box", act: () => showArchive(true) },
  { label: say("exportAll"), icon: "save", act: () => save(null, "json", "self_agent-chats.json") },
  { label: say("importChats"), icon: "open", act: bringIn },
  { label: say("shortcuts"), icon: "keys", act: () => (dialog.value = { kind: "shortcuts" }) },
  { label: say("apiDocs"), icon: "book", act: () => open("/docs", "_blank", "noopener") },
  ...(hasToken() ? [{ label: say("signOut"), icon: "key", act: signOut }] : []),
];

function signOut() {
  giveToken("");
  forgetDrafts();
  location.assign("/");
}

function Chats() {
  const scroller = useRef();
  const { state, more: hasMore } = list.value;
  const rows = [];
  let group = null;
  for (const heading of chats.value) {
    const name = heading.pinned ? say("pinned") : groupOf(heading.updated_at);
    if (name !== group) rows.push(html`<h2 key=${`group ${name}`}>${name}</h2>`);
    group = name;
    rows.push(html`<${Row} key=${heading.conversation_id} heading=${heading} />`);
  }
  return html`<div class="chats" ref=${scroller} aria-busy=${state === "loading" ? "true" : "false"}>
    ${archive.value && html`<p class="about">${say("archived")}</p>`}
    ${rows}
    ${!rows.length && html`<${Nothing} state=${state} />`}
    ${hasMore && html`<${More} scroller=${scroller} count=${chats.value.length} state=${state} />`}
  </div>`;
}

function Nothing({ state }) {
  if (state === "loading") return html`<p class="about">${say("loading")}</p>`;
  if (state === "failed") return html`<p class="about">${say("listFailed")} <button type="button" class="link" onClick=${refresh}>${say("tryAgain")}</button></p>`;
  if (query.value.trim()) return html`<p class="about">${say("noMatch", { query: query.value.trim() })}</p>`;
  return html`<p class="about">${say(archive.value ? "noArchived" : "noChats")}</p>`;
}

/** The end of what is loaded: when it comes near, the next page is. */
function More({ scroller, count, state }) {
  const end = useRef();
  useEffect(() => {
    const seen = new IntersectionObserver((entries) => entries.at(-1).isIntersecting && more(), { root: scroller.current, rootMargin: "600px" });
    seen.observe(end.current);
    return () => seen.disconnect();
  }, [count, state]); // it is told anew whether it is near, for the last look may have come to nothing
  return html`<p class="about" ref=${end}>${say("loading")}</p>`;
}

function Row({ heading }) {
  const id = heading.conversation_id;
  const name = nameOf(heading);
  const isOpen = route.value === id && current.value.id === id;
  return html`<div class=${`row ${isOpen ? "open" : ""}`}>
    <a href=${addressOf(id)} data-chat=${id} aria-current=${isOpen ? "page" : undefined} title=${name} onClick=${() => (drawer.value = false)}>
      <span>${name}</span>
      ${heading.answering && html`<i class="live" role="img" aria-label=${say("answering")}></i>`}</a>
    <${Menu} label=${say("moreAbout", { name })} title=${say("more")} items=${() => actsOf(heading)} />
  </div>`;
}
