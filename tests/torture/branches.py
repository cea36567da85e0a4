"""Clients that regenerate, edit and send again, choose and fork; and what must be so of their branches after a kill."""

from __future__ import annotations

import json
import random
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.serving import CONVERSATIONS

PREFIX = "Tree-"  # of these conversations' ids
TREES = 3  # that are kept; then another is begun
MESSAGES = 60  # of one of them

Row = dict[str, Any]


@dataclass
class Tree:
    """A conversation as its client knows it: rows by their ids, the branch that is shown, and what is under way."""

    id: str
    rows: dict[int, Row] = field(default_factory=dict)
    shown: list[int] = field(default_factory=list)
    under_way: Row = field(default_factory=dict)  # what `_ask` was told

    def path(self, message_id: int) -> list[int]:
        """Return the branch that ends in a message."""
        ids = []
        while message_id:
            ids.append(message_id)
            message_id = self.rows[message_id]["parent"] or 0
        return ids[::-1]

    def texts(self, ids: list[int]) -> list[str]:
        """Return what messages say."""
        return [self.rows[message_id]["content"] for message_id in ids]


class Forest:
    """All such conversations, over all kills."""

    def __init__(self) -> None:
        self.trees: dict[str, Tree] = {}
        self.operations = 0  # that were acknowledged
        self.repeated = 0  # after a kill, with their keys
        self.refused: list[str] = []
        self.doubts: list[tuple[str, str]] = []  # what was seen wrong while the server lived


class Brancher(threading.Thread):
    """One client, which does one thing at a time until the server does not answer any more, or until it is told."""

    def __init__(self, url: str, forest: Forest, seed: int, stop: threading.Event) -> None:
        super().__init__(name="brancher")
        self.url = url + CONVERSATIONS
        self.forest = forest
        self.random = random.Random(seed)
        self.stop = stop
        self.http = requests.Session()

    def run(self) -> None:
        try:
            for tree in list(self.forest.trees.values()):
                if tree.under_way.get("key"):
                    self.forest.repeated += 1
                    self._ask(tree, **tree.under_way)
            while not self.stop.is_set():
                self._step()
        except requests.RequestException:
            pass  # killed
        finally:
            self.http.close()

    def _step(self) -> None:
        trees = self.forest.trees
        if len(trees) < TREES:
            fresh = Tree(f"{PREFIX}{uuid.uuid4().hex[:8]}")
            trees[fresh.id] = fresh
        tree = self.random.choice(list(trees.values()))
        if len(tree.rows) > MESSAGES:
            del trees[tree.id]
            self.http.delete(f"{self.url}/{tree.id}", timeout=60)
            return
        said = {"content": f"{uuid.uuid4().hex[:12]} " + "word " * self.random.choice([2, 2, 5, 300])}
        some = self.random.choice(list(tree.rows)) if tree.rows else 0
        what = self.random.choice(["send", "send", "regenerate", "edit", "edit", "choose", "fork"])
        if not some or what == "send":
            self._ask(tree, "messages", said, kind="send", key=uuid.uuid4().hex)
        elif what == "regenerate":
            question = some if tree.rows[some]["role"] == "user" else tree.rows[some]["parent"]
            self._ask(tree, f"messages/{some}/regenerate", {}, kind=what, base=question, key=uuid.uuid4().hex)
        elif what == "edit":
            base = tree.rows[some]["parent"] or 0 if tree.rows[some]["role"] == "user" else some
            self._ask(tree, "messages", {**said, "parent": base}, kind=what, base=base, key=uuid.uuid4().hex)
        elif what == "choose":
            self._ask(tree, "choose", {"message_id": some}, kind=what, base=some)
        else:
            made = f"{PREFIX}{uuid.uuid4().hex[:8]}"
            self._ask(tree, "fork", {"message_id": some, "conversation_id": made}, kind=what, base=some, made=made)

    def _ask(self, tree: Tree, path: str, body: Row, **under_way: Any) -> None:
        tree.under_way = {"path": path, "body": body, **under_way}
        headers = {"Idempotency-Key": under_way["key"]} if under_way.get("key") else {}
        answer = self.http.post(f"{self.url}/{tree.id}/{path}", json=body, headers=headers, timeout=60)
        if answer.status_code != 200:
            self.forest.refused.append(f"{path}: {answer.status_code} {answer.text[:200]}")
        self.forest.operations += 1
        look(self.url, tree, self.forest.doubts, is_done=True)
        if made := under_way.get("made"):
            self.forest.trees.setdefault(made, Tree(made))
            copy = self.forest.trees[made]
            look(self.url, copy, self.forest.doubts)
            texts = [
                [it.rows[i]["content"] for i in ids]
                for it, ids in ((tree, tree.path(body["message_id"])), (copy, copy.shown))
            ]
            if texts[0] != texts[1]:
                self.forest.doubts.append(("wrong", f"{made} is no copy of {tree.id}"))


def look(url: str, tree: Tree, doubts: list[tuple[str, str]], *, is_done: bool = False) -> None:
    """Read what is shown, hold it against what is known, and believe it from now on."""
    answer = requests.get(f"{url}/{tree.id}?view=full&size=500", timeout=60)
    answer.raise_for_status()
    found = answer.json()["data"]["messages"]
    doubts += judged(tree, found, is_done=is_done)
    tree.rows.update((row["id"], row) for row in found)
    tree.shown = [row["id"] for row in found]
    tree.under_way = {}


def judged(tree: Tree, found: list[Row], *, is_done: bool) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a branch that is shown: it must be the one that was, or the one that was asked for."""
    ids = [row["id"] for row in found]
    kind, base = tree.under_way.get("kind"), tree.under_way.get("base", 0)
    for row, parent in zip(found, [None, *ids], strict=False):
        known = tree.rows.get(row["id"])
        if row["parent"] != parent:
            yield "wrong", f"{tree.id}: {row['id']} does not follow {parent}"
        if known and any(known[name] != row[name] for name in ("parent", "role", "content")):
            yield "wrong", f"{tree.id}: {row['id']} has changed"
    if kind == "again":
        said = tree.under_way["body"].get("content")
        is_whole = [row["role"] for row in found[-2:]] == ["user", "assistant"]
        is_asked = not is_done and found[-1:] and found[-1]["content"] == said
        expected = [ids] if is_asked or (is_whole and said in (None, found[-2]["content"])) else []
        expected += [] if is_done else [tree.shown]
    elif kind in (None, "fork"):
        expected = [tree.shown] if tree.rows else [ids]
    elif kind == "choose":
        expected = [ids] if base in ids and all(message_id in tree.rows for message_id in ids) else []
        expected += [] if is_done else [tree.shown]
    else:
        stem = tree.shown if kind == "send" else tree.path(base)
        new = [message_id for message_id in ids if message_id not in tree.rows]
        most = 1 if kind == "regenerate" else 2
        expected = [stem + new] if len(new) == most or (not is_done and 0 < len(new) < most) else []
        expected += [] if is_done else [tree.shown]
    if ids not in expected:
        yield "broken", f"{tree.id}: {ids} is shown after {kind} at {base}, where {tree.shown} was"


def check_trees(url: str, folder: Path, forest: Forest) -> Iterator[tuple[str, str]]:
    """Compare a server that was just started with what is known of its branches, which then is what was found."""
    yield from forest.doubts
    yield from (("wrong", f"refused: {text}") for text in forest.refused)
    forest.doubts.clear()
    forest.refused.clear()
    made = [tree.under_way["made"] for tree in forest.trees.values() if "made" in tree.under_way]
    for tree in [*forest.trees.values(), *(Tree(name) for name in made)]:
        path = next(
            (folder / "conversations").glob(f"{tree.id.lower()}+*.json"), None
        )  # the name says what is a capital
        if path is None:
            if tree.rows:
                yield "lost", tree.id
            continue
        rows, shown = read(path)
        forest.trees.setdefault(tree.id, tree)
        for message_id, known in tree.rows.items():
            if message_id not in rows:
                yield "lost", f"{tree.id}: {message_id}"
            elif (rows[message_id]["parent"] or None, rows[message_id]["content"]) != (
                known["parent"],
                known["content"],
            ):
                yield "wrong", f"{tree.id}: {message_id} is {rows[message_id]}, was {known}"
        said = [row["content"] for row in rows.values() if row["role"] == "user"]
        if len(said) != len(set(said)):
            yield "duplicated", f"{tree.id}: a question"
        retry = tree.under_way
        before = set(tree.rows)
        doubts: list[tuple[str, str]] = []
        look(url + CONVERSATIONS, tree, doubts)
        yield from doubts
        if tree.shown != shown:
            yield "wrong", f"{tree.id}: {tree.shown} is shown, the document says {shown}"
        news = [row for message_id, row in rows.items() if message_id not in before]
        is_answered = any(row["role"] == "assistant" for row in news)
        if retry.get("key") and not is_answered:  # to be sent again; what is stored of it must not come twice
            tree.under_way = {**retry, "kind": "again"}
        tree.rows.update((message_id, {**row, "parent": row["parent"] or None}) for message_id, row in rows.items())


def read(path: Path) -> tuple[dict[int, Row], list[int]]:
    """Return the rows of a document with their parents, and what is shown, as data/README.md says."""
    document = json.loads(path.read_bytes())
    rows: dict[int, Row] = {}
    last = 0
    for row in document["messages"]:
        parent = row.get("parent")
        rows[row["id"]] = {**row, "parent": parent if parent == 0 or parent in rows else last}
        last = row["id"]
    choice = document.get("chosen") or {}
    end = choice["end"] if choice.get("last") == last else last
    shown = []
    while end:
        shown.append(end)
        end = rows[end]["parent"]
    return rows, shown[::-1]
