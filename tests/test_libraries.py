"""The page's libraries are fetched whole and right, or not at all, whatever a registry sends."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from self_agent import libraries
from self_agent.libraries import FetchFailed, Package, __main__, locked, obtain

FILES = {"package/LICENSE": b"words", "package/dist/one.mjs": b"export const one = 1;"}
TARBALL = "one/-/one-1.0.0.tgz"

Registry = Callable[..., str]


def packed(files: dict[str, bytes], *members: tarfile.TarInfo) -> bytes:
    """Return a tarball of files, and of members without content."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in members:
            archive.addfile(member)
    return stream.getvalue()


def package_of(data: bytes, *files: str) -> Package:
    """Return a row of a lock file that believes in `data`."""
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    imports = {"one": "dist/one.mjs"}
    return Package("one", "1.0.0", "MIT", TARBALL, integrity, imports, files or ("LICENSE", "dist/one.mjs"))


class Served(http.server.BaseHTTPRequestHandler):
    """A registry of one package."""

    data = b""
    promised: int | None = None  # the length that is told, if it is not the real one
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(200 if self.path.endswith(TARBALL) else 404)
        self.send_header("Content-Length", str(self.promised or len(self.data)))
        self.end_headers()
        self.wfile.write(self.data)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test output clean."""


@pytest.fixture
def registry() -> Iterator[Registry]:
    """Serve a tarball; return the registry's URL."""
    Served.asked, Served.promised = 0, None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Served)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that has had enough is no error
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def serve(data: bytes, promised: int | None = None) -> str:
        Served.data, Served.promised = data, promised
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    server.shutdown()
    server.server_close()


def test_files_come_once(registry: Registry, tmp_path: Path) -> None:
    """What the lock file names is there, and nothing else; a second time nobody is asked."""
    data = packed({**FILES, "package/more.js": b"x"})
    url = registry(data)
    for _ in range(2):
        obtain([package_of(data)], f"{url}/", tmp_path)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found - {".lock"} == {"one-1.0.0/LICENSE", "one-1.0.0/dist/one.mjs"}
    assert Served.asked == 1


def test_another_file_is_fetched_later(registry: Registry, tmp_path: Path) -> None:
    """A lock file that names one file more, or a file that somebody removed, is a reason to fetch the package again."""
    data = packed({**FILES, "package/more.js": b"x"})
    url = registry(data)
    obtain([package_of(data)], url, tmp_path)
    obtain([package_of(data, "LICENSE", "more.js")], url, tmp_path)
    assert (tmp_path / "one-1.0.0" / "more.js").read_bytes() == b"x"
    assert Served.asked == 2


def test_wrong_hash_is_refused(registry: Registry, tmp_path: Path) -> None:
    """A package that is not the published one is not unpacked, whatever is in it; the message says what to do."""
    url = registry(packed({**FILES, "package/dist/one.mjs": b"evil()"}))
    with pytest.raises(FetchFailed, match=r"sends another one 1\.0\.0 than .* hash, .*LIBRARIES_REGISTRY .*python -m"):
        obtain([package_of(packed(FILES))], url, tmp_path)
    assert not list(tmp_path.glob("*one*"))


@pytest.mark.parametrize(
    "name", ["../../outside", "/outside", "package/../../outside", "package/..\\outside", "x/../one.mjs"]
)
def test_names_in_tarball_are_no_paths(registry: Registry, tmp_path: Path, name: str) -> None:
    """A member that would lie elsewhere lies nowhere, even in a package with the right hash."""
    data = packed({**FILES, name: b"evil"})
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    obtain([package_of(data)], registry(data), folder)
    assert not list(tmp_path.rglob("*outside*"))
    assert (folder / "one-1.0.0" / "dist" / "one.mjs").read_bytes() == FILES["package/dist/one.mjs"]


def test_links_are_no_files(registry: Registry, tmp_path: Path) -> None:
    """A link in the place of a file is not followed: the file counts as missing."""
    link = tarfile.TarInfo("package/dist/one.mjs")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    data = packed({"package/LICENSE": b"words"}, link)
    with pytest.raises(FetchFailed, match=r"has no file dist/one\.mjs"):
        obtain([package_of(data)], registry(data), tmp_path)
    assert not list(tmp_path.glob("*one*"))


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a//x", "a\\x", "C:x", ".hidden", "", "a/."])
def test_lock_file_names_no_paths_either(tmp_path: Path, name: str) -> None:
    """A lock file that somebody was talked into cannot write elsewhere."""
    row = {**vars(package_of(b"", name))}
    lock = tmp_path / "lock.json"
    lock.write_text(json.dumps({"packages": [row]}))
    with pytest.raises(ValueError, match="must not name"):
        locked(lock)


def test_cut_off_download_leaves_nothing(registry: Registry, tmp_path: Path) -> None:
    """A connection that breaks is told, and the next run gets it whole."""
    data = packed(FILES)
    url = registry(data[:100], promised=len(data))
    with pytest.raises(FetchFailed, match="breaks off"):
        obtain([package_of(data)], url, tmp_path)
    assert not list(tmp_path.glob("*one*"))
    obtain([package_of(data)], registry(data), tmp_path)


@pytest.mark.parametrize("data", [packed(FILES)[:-20], b"no tarball", gzip.compress(b"no tar" * 999), b""])
def test_damaged_package_is_told(registry: Registry, tmp_path: Path, data: bytes) -> None:
    """A lock file made of a broken package is found out, too."""
    with pytest.raises(FetchFailed, match=r"one 1\.0\.0"):
        obtain([package_of(data)], registry(data), tmp_path)


def test_huge_packages_are_refused(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an endless download nor a small one that unpacks to very much fills memory or disk."""
    bomb = packed({**FILES, "package/bomb": bytes(30_000_000)})
    monkeypatch.setattr(libraries, "UNPACKED", 20_000_000)
    with pytest.raises(FetchFailed, match="larger than a package may be"):
        obtain([package_of(bomb)], registry(bomb), tmp_path)
    monkeypatch.setattr(libraries, "PACKED", 1000)
    with pytest.raises(FetchFailed, match="sends more than"):
        obtain([package_of(b"")], registry(bytes(5_000_000)), tmp_path)
    assert not list(tmp_path.glob("*one*"))


def test_reasons_name_the_remedy(registry: Registry, tmp_path: Path) -> None:
    """No network, a registry without the package, a setting that is no URL, a folder that cannot be written."""
    data = packed(FILES)
    package = package_of(data)
    url = registry(data)
    for wrong, words in (
        ("http://127.0.0.1:9", "127.0.0.1 cannot be reached"),
        ("http://user:pass@[", "must be a URL"),
        ("https://", "must be a URL"),
        ("npm.example", "must be a URL"),
        ("http://user:pass@127.0.0.1:9", "127.0.0.1 cannot be reached"),
    ):
        with pytest.raises(FetchFailed, match=words) as caught:
            obtain([package], wrong, tmp_path)
        assert "python -m self_agent.libraries" in str(caught.value)
        assert "pass" not in str(caught.value)
    with pytest.raises(FetchFailed, match="answers 404 for two"):
        obtain([replace(package, tarball="two/-/two-1.0.0.tgz")], url, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchFailed, match="cannot be written"):
        obtain([package], url, tmp_path / "file")


def test_killed_run_is_continued(registry: Registry, tmp_path: Path) -> None:
    """What a run left behind half done is in nobody's way."""
    data = packed(FILES)
    (tmp_path / ".new-one-1.0.0" / "dist").mkdir(parents=True)
    (tmp_path / ".new-one-1.0.0" / "old").write_text("")
    (tmp_path / "one-1.0.0").mkdir()
    obtain([package_of(data)], registry(data), tmp_path)
    assert sorted(os.listdir(tmp_path / "one-1.0.0")) == ["LICENSE", "dist"]
    assert not list(tmp_path.glob(".new-*"))


def test_second_waits_for_first(registry: Registry, tmp_path: Path) -> None:
    """Who comes second, in whichever process, waits, and fetches what the first did not."""
    data = packed(FILES)
    url = registry(data)
    second = threading.Thread(target=obtain, args=([package_of(data)], url, tmp_path))
    with FileLock(tmp_path / ".lock"):  # the first is at it
        second.start()
        second.join(0.3)
        assert second.is_alive()
        assert Served.asked == 0
        for name in ("LICENSE", "dist/one.mjs"):
            path = tmp_path / "one-1.0.0" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("by the first")
    second.join(20)
    assert Served.asked == 0
    assert (tmp_path / "one-1.0.0" / "LICENSE").read_text() == "by the first"


def test_lock_file_is_complete() -> None:
    """Each package has its licence with it, a folder of its own, and imports that are among its files."""
    packages = locked()
    assert len({package.folder for package in packages}) == len(packages)
    for package in packages:
        assert "LICENSE" in package.files
        assert package.licence
        assert package.version in package.tarball
        assert package.integrity.startswith("sha512-")
        for target in package.imports.values():
            assert any(file == target or (target.endswith("/") and file.startswith(target)) for file in package.files)


def test_command_says_what_went_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with 1 and a reason on a failure, and does nothing where there is no page."""

    def fail(*_: Any) -> None:
        raise FetchFailed("there is no network; look at it")

    monkeypatch.setattr(__main__, "obtain", fail)
    monkeypatch.setattr(__main__, "FOLDER", Path("nowhere"))
    assert __main__.main([]) == 1
    assert capsys.readouterr().err == "self_agent: there is no network; look at it\n"
    monkeypatch.setenv("PAGE", "false")
    assert __main__.main(["--tests"]) == 0
