"""The image's and the composition's files, as far as they can be checked where nothing runs containers."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.config import Settings
from tests.serving import ROOT, Server

NAMES = {name.upper() for name in Settings.__dataclass_fields__}
KNOWN = {
    "FROM", "ARG", "ENV", "RUN", "WORKDIR", "COPY", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "CMD",
}  # fmt: skip


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions and what follows them, without comments, continued lines joined."""
    text = "\n".join(line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#"))
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines if line.strip())]


def all_of(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def environment() -> dict[str, str]:
    return dict(part.split("=", 1) for rest in all_of("ENV") for part in shlex.split(rest))


def copied(source: str) -> list[Path]:
    return [ROOT / name for name in source.split()[:-1]]


def health_command() -> list[str]:
    [check] = all_of("HEALTHCHECK")
    return json.loads(check.partition("CMD ")[2])


def test_only_known_instructions() -> None:
    """Each line is an instruction, the first one the base image, with its version."""
    assert {name for name, _ in instructions()} <= KNOWN
    assert instructions()[0] == ("FROM", "python:3.13-slim")


def test_it_is_not_root() -> None:
    """Whoever breaks in is nobody: by number, so that Kubernetes can see it; and nothing is done as root afterwards."""
    assert all_of("USER") == ["10001:10001"]
    names = [name for name, _ in instructions()]
    assert names.index("USER") > max(index for index, name in enumerate(names) if name in ("RUN", "COPY"))
    assert "--uid 10001" in " ".join(all_of("RUN"))


def test_commands_are_lists() -> None:
    """No shell stands between a signal and the server; the end is the signal that drains."""
    [command] = all_of("CMD")
    assert json.loads(command) == ["python", "run.py"]
    assert all_of("STOPSIGNAL") == ["SIGTERM"]
    assert health_command()[0] == "python"


def test_settings_are_settings() -> None:
    """What is set has a meaning, and the folders are the volumes that belong to the user."""
    found = environment()
    assert set(found) - {"PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"} <= NAMES
    assert json.loads(all_of("VOLUME")[0]) == [found["DATA_DIR"], found["LOG_DIR"]]
    [install] = [run for run in all_of("RUN") if "install --directory" in run]
    assert f"{found['DATA_DIR']} {found['LOG_DIR']}" in install
    assert all_of("EXPOSE") == [found["PORT"]]


def test_nothing_private_is_in_the_context() -> None:
    """.dockerignore leaves everything out, but what is copied."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    sources = {path.name for rest in all_of("COPY") for path in copied(rest)}
    assert sources == allowed
    assert all((ROOT / name).exists() for name in allowed)


@pytest.mark.skipif(sys.platform == "win32", reason="the image is not for Windows")
def test_what_is_copied_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the image are enough for a server; its health check tells a living one from a dead one."""
    app = tmp_path / "app"
    app.mkdir()
    for rest in all_of("COPY"):
        for path in copied(rest):
            if path.is_dir():
                shutil.copytree(path, app / path.name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, app)
    monkeypatch.setattr("tests.serving.ROOT", app)
    with Server(tmp_path, log_format=environment()["LOG_FORMAT"]) as server:
        assert server.send("c", "hi").status_code == 200
        command = [sys.executable, *health_command()[1:]]
        own = {"PATH": "", "PORT": server.url.rsplit(":", 1)[1]}
        assert subprocess.run(command, env=own, timeout=30).returncode == 0
        server.kill()
        assert subprocess.run(command, env=own, timeout=30, stderr=subprocess.DEVNULL).returncode != 0


def composition() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def test_composition_is_for_this_computer() -> None:
    """Nobody else reaches it until somebody says so; it may do and write as little as it needs."""
    [service] = composition()["services"].values()
    assert service["ports"] == ["127.0.0.1:5000:5000"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


def test_composition_keeps_what_must_stay() -> None:
    """Each volume of the image is a named one, and a stop waits longer than the server takes."""
    found = composition()
    [service] = found["services"].values()
    mounts = dict(mount.split(":") for mount in service["volumes"])
    assert set(mounts.values()) == set(json.loads(all_of("VOLUME")[0]))
    assert set(mounts) == set(found["volumes"])
    defaults = Settings()
    assert int(service["stop_grace_period"].removesuffix("s")) > defaults.drain_seconds + defaults.grace_seconds + 5


def test_composition_passes_settings_on() -> None:
    """Every variable is a setting, taken from the same name, with the default that the server has."""
    [service] = composition()["services"].values()
    for name, value in service["environment"].items():
        assert name in NAMES
        found = re.fullmatch(r"\$\{(\w+):-(.*)\}", value)
        assert found, name
        default = getattr(Settings(), name.lower())
        assert found[1] == name
        assert found[2] in ("", str(default).lower(), f"{default:g}" if isinstance(default, float) else None), name
