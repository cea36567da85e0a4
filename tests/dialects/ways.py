"""What a suite over all dialects must know of each: its `WAY`, which stands beside the dialect's own tests."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from self_agent import parts_of
from self_agent.dialects import DIALECTS

Talk = list[tuple[str, str]]  # (role, content)


class Client:
    """A test client that also knows which conversation has which number."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.http: FlaskClient = app.test_client()

    def number(self, cid: str) -> int:
        found = parts_of(self.app).store.get(cid)
        return found.number if found else 0

    def id_of(self, number: int) -> str:
        found = parts_of(self.app).store.by_number(number)
        assert found is not None
        return found.id

    def ask(self, method: str, path: str, json: Any = None) -> Any:
        answer = self.http.open(path, method=method, json=json)
        assert answer.status_code == 200, (path, answer.text)
        return answer.text if answer.mimetype.startswith("text/") else answer.json

    def wait(self, cid: str) -> None:
        """Wait for a reply that was only begun."""
        turn = parts_of(self.app).turns.current(cid)
        if turn is not None:
            turn.wait()


@dataclass(frozen=True)
class Way:
    """How a dialect does each thing; what it cannot do is None.

    `create` makes a conversation with the message `first` and its reply, and returns its id. `arguments` says under
    which name of `known` in the suites an argument of a path is found, where that is not its own. `fields` are values
    that its bodies take, where no other dialect has that field. `envelope` are the keys of an error, `stranger` is the
    status for what is another user's, `empty` are the paths that answer a stranger, for
    what does not exist is empty there, or is nobody's own.
    """

    name: str
    create: Callable[[Client], str]
    read: Callable[[Client, str], Talk]
    send: Callable[[Client, str, str], Any]
    listed: Callable[[Client], list[str]] | None = None
    delete: Callable[[Client, str], Any] | None = None
    title: Callable[[Client, str], str] | None = None
    rename: Callable[[Client, str, str], Any] | None = None
    envelope: frozenset[str] = frozenset({"data"})
    stranger: int = 404
    empty: frozenset[str] = frozenset()
    arguments: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)


def pairs(rows: list[dict[str, Any]]) -> Talk:
    return [(row["role"], row["content"]) for row in rows]


@cache
def all_ways() -> dict[str, Way]:
    """Return the way of every dialect, found in the modules of its tests."""
    package = importlib.import_module("tests.dialects")
    names = [module.name for module in pkgutil.walk_packages(package.__path__, "tests.dialects.")]
    modules = [importlib.import_module(name) for name in names if ".test_" in name]
    found: dict[str, Way] = {module.WAY.name: module.WAY for module in modules if hasattr(module, "WAY")}
    assert set(found) == set(DIALECTS), "the tests of each dialect have a WAY"
    return found


def way_of(rule: Rule) -> Way | None:
    """Return the way of the dialect that a rule belongs to, None for one that belongs to none."""
    return all_ways().get(rule.endpoint.split(".")[0]) if "." in rule.endpoint else None


def arguments(rule: Rule, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a rule's path; a KeyError here is a new kind of id, to be added to `known`."""
    way = way_of(rule)
    renamed = way.arguments if way else {}
    message = known["message_id"]
    names = {"item_id": f"msg_{message}", "response_id": f"resp_{message}", "completion_id": f"chatcmpl-{message}"}
    known = {"model": "echo", **names, **known}
    return {name: known[renamed.get(name, name)] for name in rule.arguments}
