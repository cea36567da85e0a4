"""Run benchmarks one after another and put their tables into docs/performance.md, between its two markers.

    python -m benchmarks [writes] [store] [branches] [lists] [postgres] [http] [joins] [sends] [streams] \\
        [responses] [feed] [transfer] [relay_provider] [page] [peers] [--file docs/performance.md]

Without names all are run but `peers`, which `make bench-peers` installs first. The sections of those that are not run
stay, and so does all that is outside the markers. The pictures are drawn from the rows of the tables they stand under.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from benchmarks import machine, pictures
from benchmarks.servers import ROOT
from benchmarks.table import show, table

TITLES = {  # by the name of the module; in the order in which they are run and shown
    "writes": "Durable writes (`bench_writes`)",
    "store": "Reads, lists and the start of the store (`bench_store`)",
    "branches": "Branches (`bench_branches`)",
    "lists": "Lists over HTTP (`bench_lists`)",
    "postgres": "The store on PostgreSQL (`bench_postgres`)",
    "http": "Over HTTP (`bench_http`)",
    "joins": "Joining a running reply (`bench_joins`)",
    "sends": "A send (`bench_sends`)",
    "streams": "Many at once (`bench_streams`)",
    "responses": "OpenAI's responses (`bench_responses`)",
    "feed": "The live list (`bench_feed`)",
    "transfer": "Imports, exports and copies (`bench_transfer`)",
    "relay_provider": "The provider alone (`bench_relay_provider`)",
    "page": "A reply on the page (`bench_page`)",
    "peers": "Beside LiteLLM's proxy and Open WebUI (`bench_peers`)",
}
APART = {"peers"}  # run only by their names
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
_MARKED = re.compile(f"(?<=^{BEGIN}\n).*?(?=^{END}$)", re.MULTILINE | re.DOTALL)


class Section(NamedTuple):
    """What stands under a heading: when and where it was measured, and the table with its pictures."""

    measured: str
    table: str


def read_block(text: str) -> dict[str, Section]:
    """Return the sections between the markers by their titles. Raises ValueError when a marker is missing."""
    marked = _MARKED.search(text)
    if marked is None:
        raise ValueError(f"the lines {BEGIN} and {END} must be there, in this order, for the tables to go between")
    common, *parts = re.split(r"^## ", marked[0], flags=re.MULTILINE)
    sections = {}
    for part in parts:
        title, _, body = (piece.strip() for piece in part.partition("\n"))
        measured, _, table = ("", "", body) if body.startswith("|") else body.partition("\n\n")
        sections[title] = Section(measured or common.strip(), table.strip())
    return sections


def with_block(text: str, sections: dict[str, Section]) -> str:
    """Return the text with these sections between its markers.

    Where all were measured on one day, machine and set of versions, that is said once, before the first.
    """
    measured = {section.measured for section in sections.values()}
    paragraphs = list(measured) if len(measured) == 1 else []
    for title, section in sections.items():
        own = [section.measured] if len(measured) > 1 else []
        paragraphs += [f"## {title}", *own, section.table]
    block = "\n" + "\n\n".join(paragraphs) + "\n\n"
    return _MARKED.sub(lambda _: block, text, count=1)


def save(path: Path, title: str, section: Section) -> None:
    """Put one section into the file as it is now; what no benchmark measures any more goes."""
    text = path.read_text(encoding="utf-8")
    sections = {**read_block(text), title: section}
    kept = {title: sections[title] for title in TITLES.values() if title in sections}
    path.write_text(with_block(text, kept), encoding="utf-8")


def main() -> None:
    """Run what was asked for; each table is saved as soon as it is whole."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of {', '.join(TITLES)}")
    parser.add_argument("--file", type=Path, default=ROOT / "docs" / "performance.md")
    options = parser.parse_args()
    if unknown := set(options.names) - set(TITLES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(TITLES)}")
    try:
        read_block(options.file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        sys.exit(f"{options.file.name}: {error}")
    chosen = set(options.names) or TITLES.keys() - APART
    measured = textwrap.fill(machine.sentence(ROOT / "data"), 120, break_on_hyphens=False)
    for name, title in TITLES.items():
        if name in chosen:
            print(f"\n## {title}\n", flush=True)
            rows = show(import_module(f"benchmarks.bench_{name}").rows())
            drawn = pictures.draw(rows, options.file.with_suffix(""))
            save(options.file, title, Section(measured, "\n\n".join([table(rows), *drawn])))


if __name__ == "__main__":
    main()
