"""One form for every result: what was measured, ours, what stands beside it, their ratio, and the goal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

HEADING = "| what | self_agent | beside it | ratio | goal | reached |\n|---|---|---|---|---|---|"


class Point(NamedTuple):
    """A measured figure as a picture shows it; see `benchmarks.pictures`."""

    picture: str
    panel: int
    series: str
    x: float
    y: float


class Row(NamedTuple):
    """One line of a table; what does not apply is empty. `reached` is None where there is no goal."""

    what: str
    ours: str
    beside: str = ""
    ratio: str = ""
    goal: str = ""
    reached: bool | None = None
    points: tuple[Point, ...] = ()  # the same figures, for a picture

    def markdown(self) -> str:
        """Return the line as Markdown."""
        verdict = {True: "yes", False: "**no**", None: ""}[self.reached]
        return f"| {self.what} | {self.ours} | {self.beside} | {self.ratio} | {self.goal} | {verdict} |"


def show(rows: Iterable[Row]) -> list[Row]:
    """Print each line as soon as it is measured, and return the rows."""
    print(HEADING, flush=True)
    shown = []
    for row in rows:
        shown.append(row)
        print(row.markdown(), flush=True)
    return shown


def table(rows: Iterable[Row]) -> str:
    """Return the table of some rows as Markdown."""
    return "\n".join([HEADING, *(row.markdown() for row in rows)])
