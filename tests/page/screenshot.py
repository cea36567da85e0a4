"""Take a picture of the page with a prepared chat: `make screenshot` writes docs/screenshot.png."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import requests

from self_agent.libraries import FetchFailed, locked, obtain
from tests import upstream as models
from tests.page.browsing import NoBrowser, PageServer, asking, chromium
from tests.serving import CONVERSATIONS, ROOT
from tests.upstream import FakeUpstream, Reply

PICTURE = ROOT / "docs" / "screenshot.png"
MODEL = "llama-3.3-70b"
SIZE = {"width": 1280, "height": 800}
OTHERS = {  # chats that the list shows, oldest first
    "bread": ("Why does my sourdough not rise?", "Most often the starter is too cold or too young."),
    "trip": ("Three days in Lisbon without a car", "Day one: Alfama on foot, then tram 28 in the evening."),
    "sql": ("Which index does this query need?", "One on `(user_id, created_at)`, in this order."),
    "chinese": ("用一句话解释量子纠缠", "两个粒子的状态彼此相关，测量其中一个就知道另一个，无论相距多远。"),
}
QUESTION = "How do I find the shortest path in a grid, and what does it cost?"
REPLY = r"""With a **breadth-first search**: it looks at all cells one step away, then at those two steps away, and so
on. The first time it reaches the goal it has come the shortest way.

```python
from collections import deque

def shortest(grid, start, goal):
    steps, queue = {start: 0}, deque([start])
    while queue:
        row, column = here = queue.popleft()
        if here == goal:
            return steps[here]
        for cell in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            if grid.get(cell) == "." and cell not in steps:
                steps[cell] = steps[here] + 1
                queue.append(cell)
```

For $n$ rows and $m$ columns:

| search | time | finds the shortest way |
|---|---|---|
| breadth-first | $O(nm)$ | yes, if each step costs the same |
| Dijkstra | $O(nm \log nm)$ | yes, with any costs |
| depth-first | $O(nm)$ | no |
"""


def take(path: Path) -> None:
    """Start a server, talk to it, open its page and write what it looks like to `path`."""
    obtain(locked())
    models.MODEL = MODEL  # who says to have answered
    with (
        tempfile.TemporaryDirectory() as folder,
        FakeUpstream() as upstream,
        chromium() as browser,
        PageServer(Path(folder), **{**asking(upstream), "openai_model": MODEL}) as server,
    ):
        for name, (question, reply) in {**OTHERS, "grid": (QUESTION, REPLY)}.items():
            upstream.enqueue(Reply([reply], usage={"total_tokens": len(question + reply) // 4}))
            assert server.send(name, question).status_code == 200
        requests.patch(f"{server.url}{CONVERSATIONS}/grid", json={"name": "Shortest path in a grid"}, timeout=10)
        page = browser.new_page(viewport=SIZE, locale="en-GB", device_scale_factor=1.5)
        page.goto(f"{server.url}/c/grid")
        for drawn in ("table", ".katex", "[class^=hljs-]"):  # the last two come when they are needed
            page.locator(drawn).first.wait_for()
        page.evaluate("async () => { await document.fonts.ready; }")
        page.screenshot(path=path)


if __name__ == "__main__":
    try:
        take(PICTURE)
        print(f"written: {PICTURE.relative_to(ROOT)}")
    except (FetchFailed, NoBrowser) as reason:
        sys.exit(f"there is no picture: {reason}")
