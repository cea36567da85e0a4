// Markdown text -> tokens -> HTML text. Knows no DOM; what it writes is not trusted: render.js sanitizes it.
import { Lexer, Marked, Tokenizer } from "marked";

/** Quotes in lists in emphasis…: what is nested deeper is shown as it was written. A parser recurses as deep. */
export const DEEPEST = 64;
// A paragraph with more marks than this was made to keep a parser busy: it is shown as it was written.
const MOST_MARKS = 2500;
const MARKS = /[*_~]+|`+|[[<$]|\\\(/g;
const KEPT = "sub|sup|kbd|u|mark"; // these and br are the only HTML that is not shown as text

const entities = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const escape = (text) => text.replace(/[&<>"]/g, (character) => entities[character]);

/** The text as it is parsed: lines end with \n, and there is no NUL, which the DOM does not keep. */
export const normalise = (text) => text.replace(/\r\n?/g, "\n").replaceAll("\0", "\ufffd");

// --- limits

let depth = 0;

/** Run what recurses one level deeper, or return undefined, "nothing is begun here", where that is too deep. */
function deeper(parse) {
  if (depth >= DEEPEST) return undefined;
  depth++;
  try {
    return parse();
  } finally {
    depth--;
  }
}

class Limited extends Tokenizer {
  tag(text) {
    const { inLink, inRawBlock } = this.lexer.state;
    const token = super.tag(text);
    Object.assign(this.lexer.state, { inLink, inRawBlock }); // tags are shown as text: they change nothing behind them
    return token;
  }

  html(text) {
    return KEPT_AT_START.test(text) ? undefined : super.html(text); // a paragraph begins with it
  }

  lheading(text) {
    const token = super.lheading(text);
    return token && FORMULA_LINE.test(token.raw) ? undefined : token; // the formula ends what is in front of it
  }
}
const FORMULA_LINE = /\n {0,3}(?:\$\$|\\\[)/;
const KEPT_AT_START = new RegExp(`^ {0,3}</?(?:br|${KEPT})\\s*/?>`, "i");
for (const name of ["blockquote", "list", "emStrong", "link", "reflink", "del"]) {
  const parse = Tokenizer.prototype[name];
  Limited.prototype[name] = function (...args) {
    return deeper(() => parse.apply(this, args));
  };
}

// --- what is added to the grammar

// A formula of its own lines. It holds no blank line, so that where it cannot end any more is known soon.
const BLOCK = /^ {0,3}(\$\$(?:(?!\$\$|\n[ \t]*\n)[^]){1,4000}?\$\$|\\\[(?:(?!\\\]|\n[ \t]*\n)[^]){1,4000}?\\\])[ \t]*(?:\n+|$)/;
// $$…$$ and \[…\] within a line; \(…\); $…$ with no space inside its marks and no letter or digit behind: $5 is money.
const INLINE = /^(?:(\$\$(?:(?!\$\$)[^]){1,4000}?\$\$|\\\[(?:(?!\\\])[^]){1,4000}?\\\])|\\\((?:(?!\\\))[^]){1,1000}?\\\)|\$(?![\s$])(?:\\[^\n]|[^\n$`\\]){0,999}?(?<!\s)\$(?!\w))/;
const MASKED = new RegExp(INLINE.source.slice(1), "g");

const formula = ({ raw, display }) => {
  const [tag, kind] = display ? ["div", "block"] : ["span", "inline"];
  return `<${tag} data-math="${kind}">${escape(raw.trim())}</${tag}>`;
};
const blockFormula = {
  name: "blockFormula",
  level: "block",
  start(text) {
    const found = /\n(?:[ \t]*\n| {0,3}(\$\$|\\\[))/.exec(text); // it is only asked about the paragraph
    return found?.[1] ? found.index + 1 : undefined;
  },
  tokenizer(text) {
    const found = BLOCK.exec(text);
    return found ? { type: "blockFormula", raw: found[0], display: true } : undefined;
  },
  renderer: formula,
};
const inlineFormula = {
  name: "inlineFormula",
  level: "inline",
  start: (text) => text.match(/\$|\\[([]/)?.index,
  tokenizer(text) {
    const found = INLINE.exec(text);
    return found ? { type: "inlineFormula", raw: found[0], display: false, large: Boolean(found[1]) } : undefined;
  },
  renderer: ({ raw, large }) => `<span data-math="${large ? "block" : "inline"}">${escape(raw)}</span>`,
};

const PAIR = new RegExp(`^<(${KEPT})>((?:(?!</?\\1>)[^]){0,2000}?)</\\1>`, "i");
const KEPT_HTML = new RegExp(`<(?:br|${KEPT})\\b`, "i");
const BREAK = /^<br\s*\/?>/i;
const keptHtml = {
  name: "keptHtml",
  level: "inline",
  start: (text) => text.match(KEPT_HTML)?.index,
  tokenizer(text) {
    const br = BREAK.exec(text);
    if (br) return { type: "keptHtml", raw: br[0], tag: "br" };
    const pair = PAIR.exec(text);
    const tokens = pair && deeper(() => this.lexer.inlineTokens(pair[2], []));
    return tokens ? { type: "keptHtml", raw: pair[0], tag: pair[1].toLowerCase(), tokens } : undefined;
  },
  renderer({ tag, tokens }) {
    return tokens ? `<${tag}>${this.parser.parseInline(tokens)}</${tag}>` : "<br>";
  },
};

const marked = new Marked({ gfm: true, breaks: true });
marked.use({
  extensions: [blockFormula, inlineFormula, keptHtml],
  hooks: { emStrongMask: (text) => text.replace(MASKED, (found) => "a".repeat(found.length)) },
  renderer: {
    html: ({ text, block }) => (block ? `<p>${escape(text.trim()).replaceAll("\n", "<br>")}</p>\n` : escape(text)),
    code: ({ text, lang }) => `<pre><code data-lang="${escape(languageOf(lang))}">${escape(codeText(text))}</code></pre>\n`,
    listitem({ task, tokens }) {
      return `<li${task ? ' data-task=""' : ""}>${this.parser.parse(tokens)}</li>`;
    },
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
  },
});
const options = { ...marked.defaults, tokenizer: new Limited() };

const languageOf = (info) => /^[{.\s]*([^\s<>{}"'&`,:=]{0,40})/.exec(info ?? "")[1]; // {.python}, python:file.py
const codeText = (text) => (text ? `${text.replace(/\n$/, "")}\n` : "");

// --- what the rest of the page uses

/** Return the blocks of a normalised text as marked's tokens; `links` are definitions that stand elsewhere. */
export function lex(text, links = {}) {
  const lexer = new Lexer(options);
  Object.assign(lexer.tokens.links, links);
  depth = 0;
  lexer.blockTokens(text, lexer.tokens);
  for (const { src, tokens } of lexer.inlineQueue) {
    lexer.state.inRawBlock = false;
    const text = src.trimEnd();
    if ((text.match(MARKS)?.length ?? 0) > MOST_MARKS) tokens.push({ type: "text", raw: text, text, escaped: false });
    else lexer.inlineTokens(text, tokens);
  }
  return lexer.tokens;
}

/** Return the definitions `[name]: address` of a normalised text, by name. */
export function definitions(text) {
  if (!/^[ \t>*+\-\d.)]*\[[^\]]+\]:/m.test(text)) return {};
  const lexer = new Lexer(options);
  depth = 0;
  lexer.blockTokens(text, lexer.tokens);
  return lexer.tokens.links;
}

/** Return tokens of `lex` as HTML text that has still to be sanitized. */
export const toHtml = (tokens) => marked.parser(tokens, options);

/** Return the language and the content of a fenced block as `toHtml` writes them. */
export const codeOf = ({ lang, text }) => ({ language: languageOf(lang), text: codeText(text) });

/** Return where a formula begins that more text may still end, or Infinity: what stands in front of it is settled. */
export function openFormula(text) {
  const begin = /^ {0,3}(\$\$|\\\[)/gm;
  for (let found; (found = begin.exec(text)); ) {
    const [body] = text.slice(begin.lastIndex, begin.lastIndex + 4100).split(/\n[ \t]*\n/, 1);
    const end = body.indexOf(found[1] === "$$" ? "$$" : "\\]");
    if (end >= 0) begin.lastIndex += end + 2;
    else if (body.length < 4100 && begin.lastIndex + body.length === text.length) return found.index;
  }
  return Infinity;
}
