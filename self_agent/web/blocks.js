// A reply that grows: what is finished is rendered once and never touched again, only the last block is rendered anew.
import { dressCode } from "./highlight.js";
import { codeOf, definitions, lex, normalise, openFormula } from "./markdown.js";
import { finishNodes, renderMarkdown, renderTokens } from "./render.js";

const FENCE = /^( {0,3})(`{3,}(?=[^`\n]*\n)|~{3,})[^\n]*\n/;
const REST = 4; // a block that is dear to render rests this many times as long as that took

/**
 * Renders a reply into an element while it comes, at the browser's frames.
 *
 * At the end the element holds what `renderMarkdown` makes of the whole text, whatever the pieces were.
 * `words` are the texts of buttons, as in highlight.js.
 */
export class Blocks {
  #element;
  #words;
  #all = ""; // the whole text
  #rest = ""; // what of it is not in finished blocks
  #held = ""; // a \r, whose \n may be on its way
  #looked = 0; // so much of the rest, all of whole lines, holds no finished block
  #tail = []; // the open blocks: {token, nodes}
  #growing = null; // the open code or table, which is not rendered anew but grows: a function
  #linkable = []; // finished blocks in which a definition further down may make links
  #frame = 0;
  #wait = 0; // until then, on the clock of performance.now(), nothing is rendered

  constructor(element, words) {
    this.#element = element;
    this.#words = words;
    element.classList.add("markdown");
  }

  /** Add what has come; it is shown at one of the next frames. */
  push(text) {
    text = this.#held + text;
    this.#held = text.endsWith("\r") ? "\r" : "";
    this.#add(this.#held ? text.slice(0, -1) : text);
    this.#frame ||= requestAnimationFrame(this.#tick);
  }

  /** Show now all that has come. */
  render() {
    this.#show(false);
  }

  /**
   * The reply is over: finish its last block. With `text`, the reply as it was stored, that is what is shown.
   * Nodes that are right already stay, with whatever is selected in them.
   */
  finish(text) {
    cancelAnimationFrame(this.#frame);
    this.#add(this.#held);
    this.#held = "";
    if (text !== undefined && normalise(text) !== this.#all) {
      this.#element.replaceChildren(renderMarkdown(text, this.#words));
      return;
    }
    this.#show(true);
    this.#link();
  }

  #add(text) {
    text = normalise(text);
    this.#all += text;
    this.#rest += text;
  }

  #tick = (now) => {
    this.#frame = 0;
    if (now < this.#wait) this.#frame = requestAnimationFrame(this.#tick);
    else this.#show(false);
  };

  #show(last) {
    const start = performance.now();
    try {
      while ((this.#rest || (last && this.#growing)) && (this.#growing ?? this.#grow).call(this, last));
      if (last) this.#settle(this.#tail.length);
    } catch (error) {
      console.warn("a reply is shown as plain text:", error);
      this.#fail();
    }
    this.#wait = start + (REST + 1) * (performance.now() - start);
  }

  /** Finish blocks as far as whole lines allow, and show the one that is open; true: there may be more to do. */
  #grow(last) {
    const whole = last ? this.#rest.length : this.#rest.lastIndexOf("\n") + 1;
    const fence = FENCE.exec(this.#rest);
    if (fence) return this.#openCode(fence);
    if (whole > this.#looked) {
      const lines = this.#rest.slice(0, whole);
      const tokens = lex(lines);
      const open = last ? 0 : lastBlocks(tokens);
      const limit = last ? Infinity : openFormula(lines);
      let [count, length] = [0, 0];
      while (count < tokens.length - open && length + tokens[count].raw.length <= limit) length += tokens[count++].raw.length;
      if (count && lines.startsWith(tokens.slice(0, count).map(({ raw }) => raw).join(""))) {
        this.#display(tokens.slice(0, count));
        this.#settle(count);
        this.#rest = this.#rest.slice(length);
        this.#looked = 0;
        return true;
      }
      this.#looked = whole;
      if (tokens[0]?.type === "table") return this.#openTable(tokens[0], lines);
    }
    this.#display(lex(this.#rest));
    return false;
  }

  // --- code, line by line

  #openCode([head, indent, mark]) {
    const { language } = codeOf(lex(head)[0]);
    const pre = document.createElement("pre");
    const code = pre.appendChild(document.createElement("code"));
    code.dataset.lang = language;
    const node = code.appendChild(new Text());
    const frame = this.#replaceTail(pre, code);
    const end = new RegExp(`^ {0,3}${mark}[~\`]* *$`);
    let source = head; // the block as it is in the text
    let shown = 0;
    this.#rest = this.#rest.slice(head.length);
    this.#growing = (last) => {
      let added = "";
      for (let at; (at = this.#rest.indexOf("\n", shown)) >= 0 || (last && shown < this.#rest.length); ) {
        const next = at < 0 ? this.#rest.length : at + 1;
        const line = this.#rest.slice(shown, next).replace(/\n$/, "");
        shown = next;
        if (end.test(line)) return this.#closeCode(frame, node, source + this.#rest.slice(0, next), next);
        added += `${line.startsWith(indent) ? line.slice(indent.length) : line}\n`;
      }
      if (added) node.appendData(added);
      source += this.#rest.slice(0, shown);
      this.#rest = this.#rest.slice(shown);
      shown = 0;
      if (last) return this.#closeCode(frame, node, source, 0);
      return false; // the line that is not whole waits: it may be the closing fence
    };
    return true;
  }

  /** The code is whole: it is what the grammar says of it, which is seldom more than what stands there. */
  #closeCode(frame, node, source, length) {
    const { text } = codeOf(lex(source)[0]);
    if (node.data !== text) node.data = text;
    this.#tail = [{ token: { raw: "" }, nodes: [frame] }];
    this.#settle(1);
    this.#rest = this.#rest.slice(length);
    this.#looked = 0;
    this.#growing = null;
    return true;
  }

  #replaceTail(pre, code) {
    const fragment = document.createDocumentFragment();
    fragment.append(pre);
    const frame = dressCode(code, this.#words);
    this.#drop(0);
    this.#element.append(frame);
    return frame;
  }

  // --- a table, row by row

  #openTable(token, lines) {
    const head = lines.split("\n", 2).join("\n") + "\n";
    this.#display([{ ...token, raw: head, rows: [] }]);
    const [frame] = this.#tail[0].nodes;
    const table = frame.querySelector("table");
    let source = head;
    this.#rest = this.#rest.slice(head.length);
    this.#growing = (last) => {
      const come = last ? this.#rest : this.#rest.slice(0, this.#rest.lastIndexOf("\n") + 1);
      const { rows, length, goesOn } = rowsOf(head, come);
      if (rows) (table.tBodies[0] ?? table.createTBody()).append(...this.#renderRows(rows));
      source += come.slice(0, length);
      this.#rest = this.#rest.slice(length);
      if (goesOn && !last) return false;
      this.#tail[0].token = { raw: source };
      this.#settle(1);
      this.#looked = 0;
      this.#growing = null;
      return true;
    };
    return true;
  }

  #renderRows(table) {
    return renderTokens([table], this.#words).querySelectorAll("tbody > tr");
  }

  // --- blocks

  /** Show these tokens as the tail; what is shown of them already stays. */
  #display(tokens) {
    tokens.forEach((token, i) => {
      const shown = this.#tail[i];
      if (shown && shown.token.type === token.type && shown.token.raw === token.raw) return;
      if (shown && isSameList(shown.token, token)) {
        this.#displayItems(shown, token);
        return;
      }
      const nodes = [...renderTokens([token], this.#words).childNodes];
      if (shown) this.#drop(i);
      this.#element.append(...nodes);
      this.#tail[i] = { token, nodes };
    });
    this.#drop(tokens.length);
  }

  /** Show a list that has grown: only items that differ are made anew, and those with another behind them are finished. */
  #displayItems(shown, token) {
    const list = shown.nodes.find((node) => node.localName === "ol" || node.localName === "ul");
    token.items.forEach((item, i) => {
      const old = list.children[i];
      if (old && shown.token.items[i]?.raw === item.raw) return;
      const [made] = renderTokens([{ ...token, items: [item] }], this.#words).querySelectorAll("li");
      if (old) old.replaceWith(made);
      else list.append(made);
      if (i < token.items.length - 1) finishNodes([made]);
    });
    while (list.children.length > token.items.length) list.lastElementChild.remove();
    shown.token = token;
  }

  /** The first blocks of the tail will not change any more. */
  #settle(count) {
    for (const { token, nodes } of this.#tail.splice(0, count)) {
      finishNodes(nodes);
      if (nodes.length && token.raw.includes("[")) this.#linkable.push({ raw: token.raw, nodes });
    }
  }

  #drop(from) {
    for (const { nodes } of this.#tail.splice(from)) for (const node of nodes) node.remove();
  }

  /** Render once more the blocks that refer to a definition which stands elsewhere. */
  #link() {
    if (!this.#linkable.length) return;
    const links = definitions(this.#all);
    if (!Object.keys(links).length) return;
    for (const { raw, nodes } of this.#linkable) {
      const made = renderTokens(lex(raw, links), this.#words);
      if (!made.querySelector("a")) continue; // nothing in it refers to anything
      finishNodes(made.childNodes);
      nodes[0].before(made);
      for (const node of nodes) node.remove();
    }
  }

  /** Something cannot be parsed piece by piece: show all that has come, now and from now on. */
  #fail() {
    this.#tail = [];
    this.#linkable = [];
    this.#growing = () => {
      this.#element.replaceChildren(renderMarkdown(this.#all, this.#words));
      return false;
    };
    this.#growing();
  }
}

/** Return how many tokens at the end belong to the block that may still grow: itself, and the blank lines behind it. */
function lastBlocks(tokens) {
  let count = 0;
  while (count < tokens.length && tokens.at(-1 - count).type === "space") count++;
  return Math.min(count + 1, tokens.length);
}

const isSameList = (a, b) =>
  a.type === "list" && b.type === "list" && a.ordered === b.ordered && a.start === b.start && a.loose === b.loose;

/** Return the rows of a table with this head that a text begins with, their length in it, and whether more may come. */
function rowsOf(head, text) {
  const probe = `${head}${text}${!text || text.endsWith("\n") ? "" : "\n"}x`; // would a line behind them be a row?
  const [table] = lex(probe);
  const goesOn = table.raw.length === probe.length;
  if (goesOn) table.rows.pop();
  const length = goesOn ? text.length : Math.max(0, table.raw.length - head.length);
  return { rows: table.rows.length ? table : null, length, goesOn };
}
