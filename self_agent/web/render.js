// Markdown text -> safe DOM: the only place where a text becomes elements.
import "dompurify/purify.min.js"; // half the size of the module, and sets a global
import { dressCode, highlight } from "./highlight.js";
import { lex, normalise, toHtml } from "./markdown.js";
import { typeset } from "./math.js";

const { DOMPurify } = globalThis;

const SCHEMES = ["http:", "https:", "mailto:", "tel:"];
const PICTURE = /^data:image\/(?:png|jpeg|gif|webp|avif);base64,[a-z0-9+/=\s]*$/i;

// No form, no frame, no style, no id, no class: what the page's own code adds, it adds afterwards.
const CONFIG = {
  ALLOWED_TAGS: [
    ..."a blockquote br code del div em h1 h2 h3 h4 h5 h6 hr img kbd li mark ol p pre span strong sub sup".split(" "),
    ..."table tbody td th thead tr u ul #text".split(" "),
  ],
  ALLOWED_ATTR: ["align", "alt", "data-lang", "data-math", "data-picture", "data-task", "href", "src", "start"],
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  ALLOWED_URI_REGEXP: /^(?:https?|mailto|tel):|^data:image\//i,
  ADD_URI_SAFE_ATTR: ["align", "data-lang", "data-math", "data-picture", "data-task", "start"], // else the pattern above is applied to them, too
  RETURN_DOM_FRAGMENT: true,
};

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName === "A") checkLink(node);
  else if (node.nodeName === "IMG") replacePicture(node);
});

/** Return the address as it will be opened, if it may be linked to. */
function parse(address) {
  try {
    const url = new URL(address);
    return SCHEMES.includes(url.protocol) ? url : null;
  } catch {
    return null;
  }
}

/** Leave only addresses of other places; say the host, as punycode: a text cannot lie about it. */
function checkLink(link) {
  const url = parse(link.getAttribute("href") ?? "");
  if (!url) return link.removeAttribute("href");
  link.href = url.href;
  link.title = url.host || url.pathname;
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
}

/** A picture that has to be fetched becomes a link: nobody learns that a chat is read. One that is all here stays. */
function replacePicture(picture) {
  const address = picture.getAttribute("src") ?? "";
  if (PICTURE.test(address)) return;
  const url = parse(address);
  const link = document.createElement(url && !picture.closest("a") ? "a" : "span");
  link.textContent = picture.alt || url?.host || "…";
  link.dataset.picture = "";
  if (link.localName === "a") {
    link.setAttribute("href", url.href);
    checkLink(link);
  }
  picture.replaceWith(link);
}

/** Wrap what is wider than the page, so that it scrolls, and give each code its header. */
function dress(fragment, words) {
  for (const table of fragment.querySelectorAll("table")) {
    const frame = document.createElement("div");
    frame.className = "table";
    frame.tabIndex = 0;
    table.replaceWith(frame);
    frame.append(table);
  }
  for (const code of fragment.querySelectorAll("pre > code")) dressCode(code, words);
  for (const node of [...fragment.childNodes]) if (node.nodeType === Node.TEXT_NODE && !node.data.trim()) node.remove();
  return fragment;
}

/** Return the text as it was written, for what cannot be parsed. */
function plain(text) {
  const pre = document.createElement("pre");
  pre.className = "plain";
  pre.textContent = text;
  const fragment = document.createDocumentFragment();
  fragment.append(pre);
  return fragment;
}

/** Return blocks of `lex` as a safe fragment; formulas are typeset as soon as that can be done. */
export function renderTokens(tokens, words) {
  const fragment = dress(DOMPurify.sanitize(toHtml(tokens), CONFIG), words);
  typeset(fragment);
  return fragment;
}

/** Colour the code in these nodes; called once for each, when its text will not change any more. */
export function finishNodes(nodes) {
  for (const node of nodes) for (const code of node.querySelectorAll?.("code[data-lang]") ?? []) highlight(code);
}

/**
 * Return a whole Markdown text as a fragment that is safe to insert, whoever wrote it.
 *
 * It can be inserted at once; colours and formulas come a moment later, in idle time. `words` are the texts of
 * buttons, as in highlight.js. It never throws: what cannot be parsed is shown as it was written.
 */
export function renderMarkdown(text, words) {
  const source = normalise(text);
  try {
    const fragment = renderTokens(lex(source), words);
    finishNodes(fragment.childNodes);
    return fragment;
  } catch (error) {
    console.warn("a message is shown as plain text:", error);
    return plain(source);
  }
}
