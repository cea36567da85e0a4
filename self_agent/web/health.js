// How the model is: asked often while it is being prepared, now and then when it is there.
import * as api from "./api.js";
import { health, models } from "./state.js";
import { rest } from "./stream.js";

const OFTEN = 1500; // ms
const SELDOM = 60_000;

export async function look() {
  try {
    const { model } = await api.healthz();
    health.value = model;
  } catch (error) {
    health.value = error.model ?? { state: "unreachable" };
  }
}

export async function watch() {
  for (;;) {
    if (!document.hidden) await look();
    await rest(["ready", "none", "unknown"].includes(health.value?.state) ? SELDOM : OFTEN);
  }
}

export async function listModels() {
  models.value = await api.models();
}
