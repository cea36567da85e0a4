// Where the reader is in a chat: follows a growing reply only for who is at its end, and holds still what is being read.

const NEAR = 64; // px from the end: as good as there
const AHEAD = 1500; // px from the beginning: time to load what is in front
const UPWARD = new Set(["ArrowUp", "PageUp", "Home"]);

/**
 * Manage `scroller`, whose content is `column`; `onTop()` is called when its beginning comes near, `onEnd()` when the
 * reader has come to the end. Following ends by what the reader does, never by how far away the end has grown.
 */
export function manage(scroller, column, { onTop, onEnd }) {
  let isFollowing = true;
  let touchedAt = 0;
  let lastTop = 0;
  let lastHeight = 0;
  let held = []; // what was visible before a change: [element, its top]
  const left = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
  const leave = () => (isFollowing = false);

  function note() {
    lastTop = scroller.scrollTop;
    lastHeight = scroller.scrollHeight;
  }

  function toEnd() {
    isFollowing = true;
    scroller.scrollTop = scroller.scrollHeight;
    note(); // what was reached, which is less
  }

  function scrolled() {
    const { scrollTop, scrollHeight } = scroller;
    if (scrollTop > lastTop && left() <= NEAR) {
      if (!isFollowing) onEnd();
      isFollowing = true;
    } else if (scrollTop < lastTop && scrollHeight >= lastHeight) leave(); // the scrollbar, the focus, a search in the page
    note();
    if (scrollTop < AHEAD) onTop();
  }

  const listeners = {
    wheel: (event) => event.deltaY < 0 && leave(),
    touchstart: (event) => (touchedAt = event.touches[0].clientY),
    touchmove: (event) => event.touches[0].clientY > touchedAt + 4 && leave(),
    keydown: (event) => (UPWARD.has(event.key) || (event.key === " " && event.shiftKey)) && leave(),
    scroll: scrolled,
  };
  for (const [name, act] of Object.entries(listeners)) scroller.addEventListener(name, act, { passive: true });
  const grown = new ResizeObserver(() => isFollowing && toEnd());
  grown.observe(column);
  grown.observe(scroller);

  return {
    toEnd,
    /** Before a change: remember where what is visible stands. */
    hold() {
      const { top, bottom } = scroller.getBoundingClientRect();
      held = [];
      for (const element of column.querySelectorAll("article")) {
        const box = element.getBoundingClientRect();
        if (box.bottom > top && box.top < bottom) held.push([element, box.top]);
        else if (held.length) break;
      }
    },
    /** After it: put that where it stood. The browser's own anchoring fails at the very top, and Safari has none. */
    release() {
      const [element, top] = held.find(([one]) => one.isConnected) ?? [];
      if (isFollowing) toEnd();
      else if (element) {
        scroller.scrollTop += element.getBoundingClientRect().top - top;
        note();
      }
      settle(column);
      if (scroller.scrollTop < AHEAD) onTop();
    },
    end() {
      for (const [name, act] of Object.entries(listeners)) scroller.removeEventListener(name, act);
      grown.disconnect();
    },
  };
}

/** Let the browser skip messages that are out of sight, once it has laid them out and so knows their height. */
function settle(column) {
  const fresh = [...column.querySelectorAll("article:not(.settled):not([aria-busy=true])")];
  requestAnimationFrame(() => requestAnimationFrame(() => fresh.forEach((one) => one.classList.add("settled"))));
}
