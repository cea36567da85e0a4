"""A field that is added one day costs one line in models.py: tried on a copy of the project."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from self_agent.models import Message
from self_agent.storage.json_files import JsonFileStore
from tests.serving import ROOT

LINES = {  # what is added, by the line that it stands behind
    "    is_deleted: bool = False\n": "    marks: list[Any] = field(default_factory=list)\n    stars: int = 3\n",
    "    project_id: int = _settable(0)\n": (
        "    starred: bool = _settable(False)\n    tags: tuple[str, ...] = _settable(())\n"
    ),
}
LOOK = """
import sys
from pathlib import Path
from self_agent.storage.json_files import JsonFileStore
store = JsonFileStore(Path(sys.argv[1]))
found, messages = store.get("c"), store.messages("c")
assert (found.title, found.starred, found.tags) == ("t", False, ()), found
assert [(m.content, m.marks, m.stars) for m in messages] == [("x", [], 3), ("y", [], 3)], messages
assert messages[0].marks is not messages[1].marks
store.close()
"""


def test_new_field_is_one_line(tmp_path: Path, open_store: Callable[[], JsonFileStore], folder: Path) -> None:
    """Every store keeps the new fields, and older documents are read with their defaults, as they lie."""
    store = open_store()
    store.create("c", "u", title="t")
    store.append("c", Message("user", "x"), Message("user", "y"))
    store.close()
    before = (folder / "conversations" / "c.json").stat().st_ino
    copy = tmp_path / "copy"
    for name in ("core", "self_agent", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    models = copy / "self_agent" / "models.py"
    text = models.read_text()
    for line, added in LINES.items():
        assert line in text
        text = text.replace(line, line + added)
    models.write_text(text)
    suite = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/storage/test_contract.py", "-k", "every or field"]
    for command in (["-c", LOOK, str(folder)], suite):
        done = subprocess.run([sys.executable, *command], cwd=copy, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "conversations" / "c.json").stat().st_ino == before
