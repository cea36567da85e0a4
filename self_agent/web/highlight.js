// Code: its header, and its colours. highlight.js and its languages are fetched when the first code of a kind is shown.
import { later } from "./idle.js";

// Longer code stays plain, for its colours would hold the page up: 20 kB take 25 ms, but many languages' expressions take
// the square of a word's length; one of 30 kB, as base64 is, took 13 s.
const LONGEST = 20_000; // characters
const LONG_LINE = /[^\n]{400}/;

/** The texts of the header, to be replaced by those of the reader's language. */
export const WORDS = {
  code: "code",
  wrapLines: "Wrap lines",
  copyCode: "Copy code",
  copied: "Copied",
  selected: "Selected: press Ctrl+C or ⌘C to copy",
};

// Each language with its other names; only these are fetched, whatever a fence says.
const LANGUAGES = `apache:apacheconf bash:sh,zsh c:h clojure:clj cmake cpp:c++,cc,hpp,cxx csharp:cs,c# css dart diff:patch
 dockerfile:docker elixir:ex,exs erlang:erl fortran:f90 fsharp:fs,f# go:golang gradle graphql:gql groovy haskell:hs http
 ini:toml java javascript:js,jsx,mjs,cjs,node json:json5,jsonc,jsonl julia:jl kotlin:kt,kts latex:tex less lisp:elisp,cl lua
 makefile:make,mk markdown:md matlab:octave nginx:nginxconf objectivec:objc,obj-c ocaml:ml perl:pl php powershell:ps1,pwsh,ps
 properties protobuf:proto python:py,py3,gyp r:R ruby:rb rust:rs scala scss:sass shell:console,shellsession,sh-session
 sql:mysql,postgresql,postgres,sqlite,plsql swift typescript:ts,tsx,mts,cts vim:viml wasm:wat xml:html,svg,vue,xhtml,rss yaml:yml`;
const fileOf = new Map();
for (const entry of LANGUAGES.split(/\s+/)) {
  const [file, others] = entry.split(":");
  for (const name of [file, ...(others?.split(",") ?? [])]) fileOf.set(name.toLowerCase(), file);
}
const INSIDE = { xml: ["javascript", "css"], markdown: ["xml"], php: ["xml"] }; // languages that others embed

// --- the header

const ICONS = {
  wrap: "M4 6h16M4 12h13a3 3 0 0 1 0 6h-4m2-2-2 2 2 2M4 18h5",
  copy: "M11 9h7a2 2 0 0 1 2 2v7a2 2 0 0 1-2 2h-7a2 2 0 0 1-2-2v-7a2 2 0 0 1 2-2zM5 15a1 1 0 0 1-1-1V6a2 2 0 0 1 2-2h8a1 1 0 0 1 1 1",
  done: "m5 13 4 4L19 7",
};

/** Put a `pre > code[data-lang]` into a frame with its language and buttons, and return the frame. */
export function dressCode(code, words) {
  const texts = { ...WORDS, ...words };
  const pre = code.parentNode;
  pre.tabIndex = 0; // what scrolls can be reached by keys
  const frame = document.createElement("div");
  frame.className = "code";
  const header = document.createElement("header");
  const name = document.createElement("span");
  name.textContent = code.dataset.lang || texts.code;
  const wrap = button("wrap", texts.wrapLines);
  wrap.ariaPressed = "false";
  wrap.addEventListener("click", () => (wrap.ariaPressed = String(frame.classList.toggle("wrapped"))));
  const copy = button("copy", texts.copyCode);
  copy.addEventListener("click", () => copyCode(code, copy, texts));
  header.append(name, wrap, copy);
  pre.replaceWith(frame);
  frame.append(header, pre);
  return frame;
}

function button(icon, text) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = `icon ${icon}`;
  made.ariaLabel = made.title = text;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  svg.firstChild.setAttribute("d", ICONS[icon]);
  made.append(svg);
  return made;
}

/** Copy the code; where a page may not write to the clipboard (plain http), select it and say so. */
async function copyCode(code, button, texts) {
  let said = texts.copied;
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    getSelection().selectAllChildren(code);
    said = texts.selected;
  }
  const path = button.querySelector("path");
  button.ariaLabel = button.title = said;
  if (said === texts.copied) path.setAttribute("d", ICONS.done);
  let note = button.parentNode.querySelector("output");
  if (!note) {
    note = document.createElement("output"); // what changes in it is read out
    button.before(note);
  }
  note.textContent = said;
  clearTimeout(button.timer);
  button.timer = setTimeout(() => {
    button.ariaLabel = button.title = texts.copyCode;
    path.setAttribute("d", ICONS.copy);
    note.textContent = "";
  }, 2500);
}

// --- the colours

const loaded = new Map(); // file -> promise of highlight.js, which knows that language then
const begun = new WeakSet();

function load(file) {
  if (!loaded.has(file)) {
    const parts = [import("highlight.js/core"), import(`highlight.js/languages/${file}.min.js`), ...(INSIDE[file] ?? []).map(load)];
    const promise = Promise.all(parts).then(([{ default: library }, { default: language }]) => {
      library.registerLanguage(file, language);
      return library;
    });
    promise.catch(() => loaded.delete(file)); // the next code tries again
    loaded.set(file, promise);
  }
  return loaded.get(file);
}

/** Colour a `code[data-lang]` in idle time, if its language is known. Its text stays as it is. */
export function highlight(code) {
  const file = fileOf.get(code.dataset.lang.toLowerCase());
  const text = code.textContent;
  if (!file || begun.has(code) || text.length > LONGEST || LONG_LINE.test(text)) return;
  begun.add(code);
  load(file).then((library) => later(() => colour(library, file, code)), () => begun.delete(code));
}

function colour(library, file, code) {
  const source = code.textContent;
  const html = library.highlight(source, { language: file, ignoreIllegals: true }).value;
  const coloured = fromHtml(html);
  if (coloured.textContent === source) code.replaceChildren(coloured);
}

const TEXTS = { "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#x27;": "'" };

/** Return what highlight.js writes, spans with a class around escaped text, as nodes; no parser of HTML sees it. */
function fromHtml(html) {
  const root = document.createDocumentFragment();
  let at = root;
  for (const [all, name] of html.matchAll(/<span class="([^"]*)">|<\/span>|[^<]+/g)) {
    if (name !== undefined) {
      const span = document.createElement("span");
      span.className = name;
      at = at.appendChild(span);
    } else if (all === "</span>") at = at.parentNode;
    else at.append(all.replace(/&(?:amp|lt|gt|quot|#x27);/g, (entity) => TEXTS[entity]));
  }
  return root;
}
