"""One form for every result: what was measured, ours, what stands beside it, their ratio, and the goal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

HEADING = "| what | self_agent | beside it | ratio | goal | reached |\n|---|---|---|---|---|---|"


class Row(NamedTuple):
    """One line of a table; what does not apply is empty. `reached` is None where there is no goal."""

    what: str
    ours: str
    beside: str = ""
    ratio: str = ""
    goal: str = ""
    reached: bool | None = None

    def markdown(self) -> str:
        """Return the line as Markdown."""
        verdict = {True: "yes", False: "**no**", None: ""}[self.reached]
        return f"| {self.what} | {self.ours} | {self.beside} | {self.ratio} | {self.goal} | {verdict} |"


def show(rows: Iterable[Row]) -> list[str]:
    """Print each line as soon as it is measured, and return them."""
    lines = [HEADING]
    print(HEADING, flush=True)
    for row in rows:
        lines.append(row.markdown())
        print(lines[-1], flush=True)
    return lines
