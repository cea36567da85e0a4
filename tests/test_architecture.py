"""The arrows between the packages point one way, and nobody but the edge knows Flask."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("core/**/*.py"), *ROOT.glob("self_agent/**/*.py")])

# What each part may import of this project; a part is the longest name here that a module's name starts with.
ALLOWED = {
    "core": {"core"},
    "core.web": {"core"},
    "core.auth": {"core"},
    "self_agent.models": {"core"},
    "self_agent.keys": {"core"},
    "self_agent.events": {"core", "self_agent.models"},
    "self_agent.storage": {"core", "self_agent.models", "self_agent.keys"},
    "self_agent.providers": {"core", "self_agent.events"},
    "self_agent.history": {"self_agent.models", "self_agent.providers"},
    "self_agent.turns": {
        "core", "self_agent.models", "self_agent.events", "self_agent.providers", "self_agent.storage",
        "self_agent.keys",
    },
    "self_agent.conversations": {
        "core", "self_agent.models", "self_agent.events", "self_agent.providers", "self_agent.storage",
        "self_agent.turns", "self_agent.history", "self_agent.keys",
    },
    "self_agent.feed": {"self_agent.events", "self_agent.turns"},
    "self_agent.titles": {
        "core", "self_agent.models", "self_agent.events", "self_agent.providers", "self_agent.storage",
    },
    "self_agent.shelves": {
        "core", "self_agent.models", "self_agent.events", "self_agent.storage", "self_agent.conversations",
    },
    "self_agent.legacy_shelves": {"core", "self_agent.models", "self_agent.storage", "self_agent.shelves"},
    "self_agent.legacy": {"core", "self_agent.models", "self_agent.storage", "self_agent.legacy_shelves"},
    "self_agent.transfer": {
        "core", "self_agent.models", "self_agent.events", "self_agent.storage", "self_agent.conversations",
        "self_agent.shelves", "self_agent.legacy",
    },
    "self_agent.encoders": {"self_agent.events", "self_agent.models"},
    "self_agent.outlet": {"self_agent.events", "self_agent.turns", "self_agent.encoders", "self_agent.providers"},
    "self_agent.streams": {
        "core", "self_agent.events", "self_agent.outlet", "self_agent.turns", "self_agent.encoders",
        "self_agent.providers",
    },
    "self_agent.listening": {
        "self_agent.events", "self_agent.feed", "self_agent.outlet", "self_agent.streams", "self_agent.turns",
        "self_agent.encoders",
    },
    "self_agent.document": {
        "core", "core.web", "self_agent.models", "self_agent.events", "self_agent.encoders", "self_agent.keys",
    },
    "self_agent.openapi": {"core", "core.web", "self_agent.document"},
    "self_agent.dialects": {
        "core", "core.web", "self_agent.models", "self_agent.events", "self_agent.turns", "self_agent.conversations",
        "self_agent.shelves", "self_agent.encoders", "self_agent.outlet", "self_agent.streams", "self_agent.openapi",
        "self_agent.document", "self_agent.listening", "self_agent.keys",
        "self_agent.transfer",
    },
    "self_agent.metrics": {"core", "core.web", "self_agent.document", "self_agent.storage", "self_agent.turns"},
    "self_agent.readiness": {"core", "core.web", "self_agent.providers", "self_agent.storage"},
    "self_agent.welcome": set(),
    "self_agent.libraries": {"core"},
    "self_agent.assets": {"self_agent.libraries"},
    "self_agent.page": {
        "core", "self_agent.document", "self_agent.welcome", "self_agent.libraries", "self_agent.assets",
    },
    "self_agent.cli": {
        "core", "self_agent.models", "self_agent.storage", "self_agent.legacy", "self_agent.transfer",
    },
}  # fmt: skip
WIRING = (
    "self_agent",
    "self_agent.server",
    "self_agent.gunicorn_connections",
    "self_agent.gunicorn_server",
    "self_agent.gunicorn_worker",
)  # these put the parts together
KNOWS_FLASK = (
    "core.web",
    "core.auth",
    "self_agent.streams",
    "self_agent.listening",
    "self_agent.document",
    "self_agent.openapi",
    "self_agent.dialects",
    "self_agent.cli",
    "self_agent.welcome",
    "self_agent.metrics",
    "self_agent.readiness",
    "self_agent.page",
    *WIRING,
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                is_module = (ROOT / Path(*full.split("."))).with_suffix(".py").exists()
                names.add(full if is_module else base)
    return names


def belongs(name: str, part: str) -> bool:
    return name == part or name.startswith(part + ".")


def part_of(name: str) -> str:
    return max((part for part in (*ALLOWED, *WIRING) if belongs(name, part)), key=len)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_point_one_way(path: Path) -> None:
    """`dialects -> conversations -> turns, storage, providers -> core`, and no other arrow."""
    name = module_name(path)
    if name in WIRING:
        return
    part = part_of(name)
    for imported in imports(path):
        if imported.split(".")[0] in ("core", "self_agent"):
            target = part_of(imported)
            assert target in ALLOWED[part] or target == part, f"{name} must not import {imported}"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_flask_stays_at_edge(path: Path) -> None:
    """What is not about HTTP does not know that there is Flask."""
    name = module_name(path)
    if any(name == known or (known not in WIRING and belongs(name, known)) for known in KNOWS_FLASK):
        return
    for imported in imports(path):
        assert imported.split(".")[0] not in ("flask", "werkzeug", "flask_cors", "spectree"), name


def test_wrong_arrow_is_seen(tmp_path: Path) -> None:
    """The reader of imports sees every spelling of an import."""
    source = tmp_path / "x.py"
    source.write_text("import flask\nfrom self_agent.storage import base\nfrom core.errors import AppError\n")
    assert imports(source) == {"flask", "self_agent.storage.base", "core.errors"}


@pytest.mark.parametrize("path", sorted(ROOT.glob("self_agent/dialects/**/*.py")), ids=module_name)
def test_dialects_reach_through_nothing(path: Path) -> None:
    """A dialect calls use cases: the store behind them, and whatever is private elsewhere, is none of its business."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "super()"):
            is_private = node.attr.startswith("_") and node.attr != "_get_current_object"  # of werkzeug's proxies
            is_behind = node.attr in ("store", "provider")
            assert not is_private, ast.unparse(node)
            assert not is_behind, ast.unparse(node)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_files_and_functions_stay_small(path: Path) -> None:
    """A file over 300 lines or a function over 50 is a question; here the answer has been "split it"."""
    text = path.read_text()
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is long"
