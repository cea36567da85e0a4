// The text of a reply. While it grows, tokens are put into the DOM by `Blocks`; Preact only owns the empty element.
import { html } from "htm/preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { watch } from "../growth.js";
import { renderer } from "../rendering.js";
import { say } from "../words.js";

const texts = () => ({
  code: say("code.name"), wrapLines: say("code.wrap"), copyCode: say("code.copy"), copied: say("copied"), selected: say("code.selected"),
});

export function Body({ message, element }) {
  const shown = useRef({ text: null, end: null }).current; // what the element shows, or how to end its growing
  const tools = renderer.value;
  useLayoutEffect(() => {
    if (!tools) return;
    if (message.growing) shown.end ??= grow(element.current, tools.Blocks);
    else if (shown.end) {
      shown.end(message.content);
      Object.assign(shown, { text: message.content, end: null });
    } else if (shown.text !== message.content) {
      element.current.replaceChildren(tools.renderMarkdown(message.content, texts()));
      shown.text = message.content;
    }
  }, [message.growing, message.content, tools]);
  useLayoutEffect(() => () => shown.end?.(), []);
  return html`<div class=${message.growing ? "markdown growing" : "markdown"} ref=${element} dir="auto"></div>`;
}

/** Hand on what has come; `Blocks` shows it once a frame, and a hidden page has no frames. Returns how to end it. */
function grow(element, Blocks) {
  const blocks = new Blocks(element, texts());
  const leave = watch({ content: (delta) => blocks.push(delta), thinking() {} });
  return (text) => {
    leave();
    if (text !== undefined) blocks.finish(text);
  };
}

/** What the model thought: folded away, and rendered only when somebody looks. */
export function Reasoning({ message }) {
  const element = useRef();
  const shown = useRef(null);
  const { growing, thinks, thought, reasoning } = message;
  const isThere = growing ? thinks : Boolean(reasoning);

  useLayoutEffect(() => {
    if (!isThere || !growing) return;
    const node = element.current.appendChild(new Text());
    return watch({ thinking: (delta) => node.appendData(delta), content() {} });
  }, [isThere, growing]);
  const look = (event) => {
    if (!event.currentTarget.open || growing || shown.current === reasoning || !renderer.value) return;
    element.current.replaceChildren(renderer.value.renderMarkdown(reasoning, texts()));
    shown.current = reasoning;
  };
  if (!isThere) return null;
  const words = thought ? say("thought", { seconds: thought }) : say(growing ? "thinking" : "reasoning");
  return html`<details class=${growing && !thought ? "think now" : "think"} onToggle=${look}>
    <summary><svg aria-hidden="true"><use href="#bulb" /></svg>${words}<svg aria-hidden="true"><use href="#caret" /></svg></summary>
    <div class=${growing ? "markdown thoughts growing" : "markdown thoughts"} ref=${element}></div></details>`;
}
