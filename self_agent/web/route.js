// Which chat the address names: `/` is a new one, `/c/<id>` one that exists.
import { signal } from "@preact/signals";

const read = () => {
  const found = /^\/c\/([^/]+)\/?$/.exec(location.pathname);
  try {
    return found ? decodeURIComponent(found[1]) : null;
  } catch {
    return null; // a broken address
  }
};

export const route = signal(read()); // an id, or null for a new chat
export const addressOf = (id) => `/c/${encodeURIComponent(id)}`;

/** Show a chat, or with null a new one; `replace` leaves no step to go back to. */
export function go(id, { replace = false } = {}) {
  const address = id === null ? "/" : addressOf(id);
  if (address !== location.pathname) history[replace ? "replaceState" : "pushState"](null, "", address);
  route.value = id;
}

addEventListener("popstate", () => (route.value = read()));

// Links to chats are real ones: a middle click or Ctrl opens them in a tab; a plain click needs no load.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-chat]");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(link.dataset.chat || null);
});
