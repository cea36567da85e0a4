// The model: how the server's own one is, and which one answers in the open chat.
import { html } from "htm/preact";
import { listModels } from "../health.js";
import { complain } from "../notices.js";
import { current, health, models } from "../state.js";
import { configure } from "../store.js";
import { say } from "../words.js";
import { Icon, Menu } from "./parts.js";

const percent = ({ progress = 0 }) => Math.floor(100 * progress);

/** One line about the state of the model. */
function inWords(model) {
  if (!model) return say("loading");
  const { state, source } = model;
  if (state === "downloading") return say(source ? "state.downloadingFrom" : "state.downloading", { percent: percent(model), source });
  if (state === "ready") return say(model.progress === undefined ? "state.ready" : "state.localReady");
  return ["loading", "failed", "none", "unreachable"].includes(state) ? say(`state.${state}`) : say("state.unknown", { state });
}

/** At the foot of the list. */
export function ModelState() {
  const model = health.value;
  const isBad = ["failed", "none", "unreachable"].includes(model?.state);
  return html`<${Icon} name=${isBad ? "warn" : "chip"} />
    <div class=${isBad ? "about-model bad" : "about-model"} role="status"><b>${model?.name ?? "self_agent"}</b>${inWords(model)}
      ${model?.state === "downloading" && html`<progress max="100" value=${percent(model)} aria-label=${inWords(model)}></progress>`}</div>`;
}

/** In an empty chat: why it cannot answer yet, and what to do. */
export function NotReady() {
  const model = health.value;
  const words = {
    downloading: () => say("modelFetched", { percent: percent(model) }),
    loading: () => say("modelLoading"),
    failed: () => say("modelFailed", { error: model.error ?? "" }),
    none: () => say("modelNone"),
  }[model?.state];
  return words ? html`<p class="notready">${words()}</p>` : null;
}

/** In the field's frame: which model answers, to be changed. */
export function ModelChoice() {
  const { model, fallback } = current.value;
  const name = model ?? fallback ?? health.value?.name ?? say("model");
  return html`<${Menu} class="pill" label=${say("chooseModel", { name })} items=${choices}>
    <${Icon} name="chip" /><span class="cut">${name}</span><${Icon} name="caret" /><//>`;
}

function choices() {
  listModels().catch((error) => (complain(error)));
  const chosen = current.value.model ?? null;
  const names = models.value.length || !chosen ? models.value : [chosen];
  const choose = (model) => () => configure({ model });
  return [
    { label: say("defaultModel"), checked: chosen === null, act: choose(null) },
    ...names.map((name) => ({ label: name, checked: name === chosen, act: choose(name) })),
    ...(names.length ? [] : [say("noModels")]),
  ];
}
