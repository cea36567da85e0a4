// Formulas: KaTeX, fetched when the first formula is shown. What it cannot set, or must not be given, stays source text.
import { later } from "./idle.js";

// Deeper or longer ones have crashed the renderer process of a browser: KaTeX and then layout recurse as deep.
const LONGEST = 4000;
const DEEPEST = 40;
const MOST_CELLS = 400; // of matrices: each becomes a dozen elements, and 3,000 held a page up for a second
const REMEMBERED = 300; // formulas: those of a growing reply are shown again with every frame

const remembered = new Map(); // kind and source -> the element, to be cloned
let katex = null;
let loading = null;

/** Typeset the formulas below `root` now where they are known, else in idle time. */
export function typeset(root) {
  for (const node of root.querySelectorAll("[data-math]")) {
    const known = remembered.get(keyOf(node));
    if (known) show(node, known);
    else if (isHarmless(node.textContent)) load().then(() => later(() => typesetOne(node)), () => {});
  }
}

const keyOf = (node) => `${node.dataset.math} ${node.textContent}`;

function show(node, made) {
  node.replaceChildren(made.cloneNode(true));
  node.removeAttribute("data-math");
  node.classList.add("math");
}

function load() {
  loading ??= import("katex").then((library) => {
    const sheet = document.createElement("link");
    sheet.rel = "stylesheet";
    sheet.href = import.meta.resolve("katex/katex.css");
    document.head.append(sheet);
    katex = library.default;
  });
  loading.catch(() => (loading = null)); // the next formula tries again
  return loading;
}

function typesetOne(node) {
  if (!node.hasAttribute("data-math")) return;
  const key = keyOf(node);
  if (!remembered.has(key)) {
    const made = document.createElement("span");
    try {
      // An error is thrown, not shown: its colour would be an inline style, which the page's policy refuses.
      katex.render(sourceOf(node.textContent), made, {
        displayMode: node.dataset.math === "block", throwOnError: true, trust: false, strict: "ignore", maxSize: 20, maxExpand: 200,
      });
    } catch {
      return;
    }
    remembered.set(key, made.firstChild);
    if (remembered.size > REMEMBERED) remembered.delete(remembered.keys().next().value);
  }
  show(node, remembered.get(key));
}

/** Return what stands between $…$, or between marks of two characters. */
const sourceOf = (text) => (/^\$(?!\$)/.test(text) ? text.slice(1, -1) : text.slice(2, -2));

const PART = /\\[a-zA-Z]+|\\[^]|[^\s]/g;
const BEGINS = /^(?:\{|\\(?:begin|left|bgroup|begingroup))$/;
const ENDS = /^(?:\}|\\(?:end|right|egroup|endgroup))$/;
// Macros make long formulas of short ones: whoever defines some is shown the source.
const DEFINES = /\\(?:[gex]?def|let|futurelet|global|long|(?:re|provide)?(?:new)?command|DeclareMathOperator)(?![a-zA-Z])/;
// They take all that follows as their content, whatever stands between.
const SWITCH = /^\\(?:(?:display|text|script|scriptscript)style|tiny|\w*size|small|normalsize|large|Large|LARGE|huge|Huge|rm|sf|tt|bf|it|cal|frak|Bbb|color|\w*over|\w*atop|choose)$/;
const TWO = /frac|binom|set|stackrel|rule|above|box|raise|color|html|href|xrightarrow/; // arguments

/**
 * Return whether a formula is short and flat enough to be given to KaTeX.
 *
 * What nests: braces, environments, \left, and commands that follow one another, \sqrt\sqrt x, with no more between
 * them than their own arguments.
 */
export function isHarmless(tex) {
  if (tex.length > LONGEST || DEFINES.test(tex) || tex.split("&").length > MOST_CELLS) return false;
  const level = (mark) => ({ mark, run: 0, fixed: 0, wanted: 0 });
  const open = [level("{")];
  let afterCommand = false;
  for (const [part] of tex.matchAll(PART)) {
    const top = open.at(-1);
    if (BEGINS.test(part)) open.push(level("{"));
    else if (part === "[" && afterCommand) open.push(level("["));
    else if (part === "]" && top.mark === "[") open.pop();
    else if (ENDS.test(part)) {
      while (open.length > 1 && open.pop().mark === "[");
      hasArgument(open.at(-1));
    } else if (part === "&" || part === "\\\\") Object.assign(top, level(top.mark));
    else if (SWITCH.test(part)) top.fixed++;
    else if (/^(?:[\^_]|\\[a-zA-Z])/.test(part)) {
      top.run++;
      top.wanted = part === "\\mathchoice" ? 4 : TWO.test(part) ? 2 : 1;
    } else hasArgument(top);
    afterCommand = part.length > 1;
    if (open.reduce((sum, { run, fixed }) => sum + Math.max(1, run + fixed), 0) > DEEPEST) return false;
  }
  return true;
}

/** Note that something which nests nothing has come: it may have been the last argument of the commands before. */
function hasArgument(level) {
  if (--level.wanted <= 0) level.run = 0;
}
