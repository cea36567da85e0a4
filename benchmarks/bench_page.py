"""Measure how smoothly the page shows a reply of 5,000 tokens as it comes, beside rendering all of it anew each frame.

A token is four characters. Tasks are those of the tab's main thread in the browser's own trace; a frame is dropped when
the next one comes a whole frame late; a token is late by the time from when it was due to when it is in the document.

Run: `python -m benchmarks.bench_page [--tokens 5000]`
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from playwright.sync_api import Browser, sync_playwright

from benchmarks.table import Row, show
from tests.page.rendering import TOOLS, running

TOKEN = 4  # characters
LIMIT = 50.0  # milliseconds: what a person notices, and browsers call a long task
WORDS = "the server keeps every reply on disk while a late reader sees it whole and nothing is lost when power fails"
CODE = """```python
def follow(turn, patience=1.0):
    \"\"\"Yield what has come, in batches.\"\"\"
    for number, event in enumerate(turn.events):
        if event.kind == "done" and number > 42:  # the end
            return f"{number}: {event!r}"
        yield [event]
```

"""

# Tokens are pushed when they are due, by timers, as they would come from a stream; the page follows its end.
STREAM = """async ([text, rate, mode, size]) => {
    const root = div(), blocks = new Blocks(root), total = Math.ceil(text.length / size);
    root.style.cssText = "height: 800px; overflow-y: auto; width: 720px";
    let pushed = 0, shown = "", dirty = false, over = false, latest = 0, dropped = 0, before = 0;
    const whole = () => root.replaceChildren(renderMarkdown(shown));
    const frame = (now) => {
        if (before) dropped += Math.max(0, Math.round((now - before) / (1000 / 60)) - 1);
        before = now;
        if (mode === "whole" && dirty) { whole(); dirty = false; }
        root.scrollTop = 1e9;
        if (!over) requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
    const start = performance.now(), due = (n) => start + (n * 1000) / rate;
    while (pushed < total) {
        await new Promise((go) => setTimeout(go, Math.max(0, due(pushed) - performance.now())));
        latest = Math.max(latest, performance.now() - due(pushed) - 4); // a timer may be 4 ms late by itself
        while (pushed < total && due(pushed) <= performance.now()) {
            const piece = text.slice(pushed * size, ++pushed * size);
            if (mode === "whole") { shown += piece; dirty = true; } else blocks.push(piece);
        }
    }
    if (mode === "whole") whole(); else blocks.finish(text);
    const late = performance.now() - due(total - 1);
    await new Promise((go) => requestAnimationFrame(() => setTimeout(go)));
    over = true;
    root.remove();
    return { late, latest, dropped };
}"""


class Figures(NamedTuple):
    """What one stream took, in milliseconds; `dearest` is a task's processor time, `long` counts tasks over LIMIT."""

    longest: float
    dearest: float
    long: int
    late: float
    latest: float
    dropped: int

    def words(self) -> str:
        """Return the figures for a cell of a table."""
        tasks = (
            f"longest task {self.longest:.0f} ms ({self.dearest:.0f} ms of processor), {self.long} over {LIMIT:.0f} ms"
        )
        return f"{tasks}; {self.dropped} frames dropped; last token {self.late:.0f} ms late, any {self.latest:.0f} ms"


def document(kind: str, tokens: int) -> str:
    """Return Markdown of so many tokens: `mixed`, or one block that is a `table`, `code`, a `list` or a `paragraph`."""
    chance = random.Random(1)
    vocabulary = WORDS.split()

    def words(count: int) -> str:
        return " ".join(chance.choice(vocabulary) for _ in range(count))

    def part(n: int) -> str:
        if kind == "table":
            return f"| {words(2)} | **{n}** | `{words(1)}` | {words(1)} |\n"
        if kind == "code":
            return f"    value_{n} = compute({n}, name='{words(2)}')  # {words(3)}\n"
        if kind == "list":
            return f"- {words(6)} **{n}** with `code`\n"
        if kind == "paragraph":
            return f"{words(9)} *{words(1)}* "
        rows = "".join(f"| item {row} | {row * 37} | `v{row}` is *fine* |\n" for row in range(12))
        return (
            f"## Part {n}\n\n{words(40)}, **{words(3)}**, `{words(1)}` and [a link](https://example.org/{n}).\n\n"
            + "".join(f"- {words(8)}\n" for _ in range(5))
            + f"\n{CODE}| name | size | note |\n|---|--:|---|\n{rows}\n> {words(20)}\n\n"
        )

    text = {"table": "| a | b | c | d |\n|---|---|---|---|\n", "code": "```python\n"}.get(kind, "")
    n = 0
    while len(text) < tokens * TOKEN:
        text, n = text + part(n), n + 1
    return text[: tokens * TOKEN]


def tasks(trace: bytes) -> list[tuple[float, float]]:
    """Return the milliseconds of every task of the tab's main thread, and those in which it had a processor."""
    events: list[dict[str, Any]] = json.loads(trace)["traceEvents"]
    mains = {
        (e["pid"], e["tid"]) for e in events if e["name"] == "thread_name" and e["args"]["name"] == "CrRendererMain"
    }
    found: dict[tuple[int, int], list[tuple[float, float]]] = {main: [] for main in mains}
    for event in events:
        main = (event["pid"], event["tid"])
        if event.get("ph") == "X" and event["name"] == "RunTask" and main in found:
            found[main].append((event["dur"] / 1000, event.get("tdur", 0) / 1000))
    return max(found.values(), key=lambda of_thread: sum(took for took, _ in of_thread))


def measure(browser: Browser, url: str, text: str, rate: int, mode: str) -> Figures:
    """Stream a text in a new tab; `mode` is "blocks", or "whole" to render all of it anew each frame."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(url)
    page.evaluate(TOOLS)
    page.evaluate(
        "async text => { const root = shown(text); await wait(1500); root.remove(); }", document("mixed", 500)
    )
    browser.start_tracing(page=page, categories=["toplevel", "disabled-by-default-devtools.timeline"])
    found = page.evaluate(STREAM, [text, rate, mode, TOKEN])
    took = tasks(browser.stop_tracing())
    page.close()
    longest, dearest = (max(column) for column in zip(*took, strict=True))
    long = sum(1 for task, _ in took if task > LIMIT)
    return Figures(longest, dearest, long, found["late"], found["latest"], found["dropped"])


def rows(tokens: int = 5000) -> Iterable[Row]:
    """Yield a row for a mixed reply at 100 and 400 tokens a second, then for replies that are one long block."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with running(Path(tempfile.mkdtemp())) as server, sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=path, args=options)
        for kind, rate in (
            ("mixed", 100),
            ("mixed", 400),
            *((kind, 400) for kind in ("table", "code", "list", "paragraph")),
        ):
            text = document(kind, tokens)
            ours = measure(browser, server.url, text, rate, "blocks")
            beside = measure(browser, server.url, text, rate, "whole") if kind == "mixed" else None
            yield Row(
                f"{tokens:,} tokens, {kind}, {rate} a second",
                ours.words(),
                f"{beside.words()}: all anew each frame" if beside else "",
                goal=f"no task over {LIMIT:.0f} ms, no token later",
                reached=ours.long == 0 and max(ours.late, ours.latest) <= LIMIT,
            )
        browser.close()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=5000)
    show(rows(parser.parse_args().tokens))


if __name__ == "__main__":
    main()
