"""Draw the measured rows as SVG: the same figures as in the table, and the same bytes for the same figures.

By matplotlib, since logarithmic axes with good ticks, two panels and legends are more than a few lines of one's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.table import Point, Row


class Panel(NamedTuple):
    """One pair of axes, logarithmic; the upright one is linear from 0 where the figures lie close together."""

    title: str
    x: str
    y: str


class Picture(NamedTuple):
    """What a picture shows, in words for who cannot see it, and its panels side by side."""

    words: str
    panels: tuple[Panel, ...]


STREAMS, CLIENTS = "open streams, 20 tokens/s each", "clients that send"
SENDS = (Panel("Sends a second", CLIENTS, "sends/s"), Panel("Processor time of a send", CLIENTS, "ms"))
PICTURES = {
    "append": Picture(
        "Time of a durable append against the length of the conversation",
        (Panel("A durable append", "messages in the conversation", "µs"),),
    ),
    "sends": Picture("Sends a second and processor time of a send against the number of clients", SENDS),
    "streams": Picture(
        "Lag and processor time of a token against the number of streams",
        (
            Panel("Lag from the upstream to the client", STREAMS, "ms"),
            Panel("Processor time of a token", STREAMS, "µs"),
        ),
    ),
    "peers": Picture("Sends a second and processor time of a send against the number of clients, by server", SENDS),
}
STYLE = {
    "svg.fonttype": "none",  # text stays text: smaller, and sharp at any size
    "svg.hashsalt": "self_agent",  # else ids are drawn by lot
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 10,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "axes.edgecolor": "#888888",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",  # readable on a dark page too
    "savefig.facecolor": "white",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 1.5,
    "legend.handletextpad": 0.4,
    "legend.columnspacing": 1.0,
}
COLOURS = ("#1769aa", "#d1495b", "#2e933c", "#8d5a97", "#b8860b")  # told apart by the shape of their marks too
MARKS = "os^Dv"
WIDE = 10  # times the least figure, from where the greatest asks for a logarithmic axis


def draw(rows: Iterable[Row], folder: Path) -> list[str]:
    """Draw the pictures that the rows have points for; return the Markdown that shows them from beside the folder."""
    points = [point for row in rows for point in row.points]
    shown = []
    for name, picture in PICTURES.items():
        if mine := [point for point in points if point.picture == name]:
            folder.mkdir(exist_ok=True)
            save(picture, mine, folder / f"{name}.svg")
            shown.append(f"![{picture.words}]({folder.name}/{name}.svg)")
    return shown


def save(picture: Picture, points: list[Point], path: Path) -> None:
    """Draw one picture into a file."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with matplotlib.rc_context(STYLE):
        count = len(picture.panels)
        figure, axes = pyplot.subplots(1, count, figsize=(4.6 * max(count, 1.5), 3.6), layout="constrained")
        for number, (panel, pair) in enumerate(zip(picture.panels, [axes] if count == 1 else axes, strict=True)):
            fill(pair, panel, [point for point in points if point.panel == number])
        figure.savefig(path, metadata={"Date": None, "Creator": None, "Title": picture.words})
        pyplot.close(figure)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(filter(None, map(str.strip, lines))) + "\n", encoding="utf-8")


def fill(axes: Any, panel: Panel, points: list[Point]) -> None:
    """Draw the series of one panel in the order in which they were measured."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    series = list(dict.fromkeys(point.series for point in points))
    for number, name in enumerate(series):
        line = sorted((point.x, point.y) for point in points if point.series == name)
        style = {"color": COLOURS[number % 5], "marker": MARKS[number % 5], "markersize": 5}
        axes.plot(*zip(*line, strict=True), label=name, linewidth=1.8, **style)
    axes.set(xscale="log", title=panel.title, xlabel=panel.x, ylabel=panel.y)
    axes.set_xticks(sorted({point.x for point in points}))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(y=0.15)
    low, high = min(point.y for point in points), max(point.y for point in points)
    if high < WIDE * low:
        axes.set_ylim(0, high * 1.3)
    else:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        axes.yaxis.set_minor_locator(NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    if len(series) > 1:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)  # below, where no line is
