"""Which lines of a conversation are one branch, where some lines do not follow the one before them.

Lines are counted from 0, in the order in which they were appended. `parents` has, for each line that does not follow
the one before it, the line that it follows, or -1 for one that begins the conversation anew; its lines rise.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from itertools import pairwise

BEGINNING = -1  # the parent of a line that has none

Parents = Mapping[int, int]


def branch_to(parents: Parents, line: int) -> list[range]:
    """Return the branch that ends in a line, as the runs of lines that it is made of, from the first on."""
    starts = list(parents)
    runs = []
    while line != BEGINNING:
        place = bisect_right(starts, line)
        start = starts[place - 1] if place else 0
        runs.append(range(start, line + 1))
        line = parents[start] if place else BEGINNING
    runs.reverse()
    return runs


def end_of(parents: Parents, total: int, line: int) -> int:
    """Return the newest line that a branch through `line` leads to; `total` is how many lines there are."""
    starts = list(parents)
    place = bisect_right(starts, line)
    stops = [*starts[place:], total]
    reached = [range(line, stops[0])]
    for start, stop in pairwise(stops):
        if any(parents[start] in run for run in reached):
            reached.append(range(start, stop))
    return reached[-1][-1]


def alternatives(parents: Parents, total: int) -> list[list[int]]:
    """Return the lines that follow the same line, oldest first, wherever these are more than one."""
    children: dict[int, list[int]] = {}
    for line, parent in parents.items():
        if parent not in children:
            following = parent + 1  # unless it follows another one itself
            children[parent] = [following] if following < total and following not in parents else []
        children[parent].append(line)
    return [lines for lines in children.values() if len(lines) > 1]


def without(runs: list[range], left_out: list[int]) -> list[range]:
    """Return runs of lines without some lines, which rise."""
    if not left_out:
        return runs
    kept = []
    for run in runs:
        start = run.start
        for line in left_out[bisect_right(left_out, start - 1) : bisect_right(left_out, run.stop - 1)]:
            if start < line:
                kept.append(range(start, line))
            start = line + 1
        if start < run.stop:
            kept.append(range(start, run.stop))
    return kept
