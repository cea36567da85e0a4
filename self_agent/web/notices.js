// Short messages above the page: what was done, with how to take it back, and what went wrong, with what to do.
import { toasts } from "./state.js";
import { explain } from "./words.js";

const LASTS = 8000; // ms; the clock stands still while the pointer or the focus is on it (view/toast.js)
let count = 0;

/** Show `text` for a while; `label` and `act` make a button. */
export function notify(text, { label, act, isError = false } = {}) {
  const toast = { key: ++count, text, label, act, isError, lasts: isError ? 2 * LASTS : LASTS };
  toasts.value = [...toasts.value.slice(-2), toast];
}

export const dismiss = (toast) => (toasts.value = toasts.value.filter((one) => one !== toast));

/** Say an error in words. */
export function complain(error) {
  const { what, remedy, detail } = explain(error);
  notify([what, detail, remedy].filter(Boolean).join(" "), { isError: true });
}
