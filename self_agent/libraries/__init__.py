"""The libraries of the chat page: fetched from a registry of npm packages, checked, unpacked; no Node is needed.

`web/libraries.lock.json` says which files of which packages, and what hash a package has; nobody's code is kept in this
repository. `python -m self_agent.libraries` fetches what is missing; with `--tests` what only the tests need, too.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import logging
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from filelock import FileLock

log = logging.getLogger(__name__)

WEB = Path(__file__).parent.parent / "web"
LOCK = WEB / "libraries.lock.json"
FOLDER = WEB / "libraries"
REGISTRY = "https://registry.npmjs.org"

PACKED, UNPACKED = 8 << 20, 64 << 20  # bytes that a package may have; the largest has 1.5 MB, and 10 MB
CHUNK = 1 << 16  # bytes
TIMEOUT = (10.0, 60.0)  # seconds: to connect, and of silence
NAME = re.compile(
    r"[A-Za-z0-9_@-][A-Za-z0-9._@-]*(/[A-Za-z0-9_@-][A-Za-z0-9._@-]*)*"
)  # no "..", no "\", nothing hidden
REMEDY = "then run: python -m self_agent.libraries"


class FetchFailed(Exception):
    """Raised when a library cannot be had; its text is the reason and the remedy, for a person."""


@dataclass(frozen=True)
class Package:
    """One row of the lock file."""

    name: str
    version: str
    licence: str
    tarball: str  # its path on a registry
    integrity: str  # "sha512-" and the hash of the tarball in base64
    imports: dict[str, str]  # bare import specifier to file; one that ends with "/" stands for a folder
    files: tuple[str, ...]  # what is taken out of the tarball, without its top folder
    tests: bool = False  # only tests need it

    @property
    def folder(self) -> str:
        """The folder that its files are in, which has the version in its name."""
        return self.tarball.rpartition("/")[2].removesuffix(".tgz")

    def is_in(self, folder: Path) -> bool:
        """Tell whether all files are there; they come together or not at all."""
        return all((folder / self.folder / file).is_file() for file in self.files)


def locked(path: Path = LOCK) -> tuple[Package, ...]:
    """Return what the lock file names. Raises ValueError when it names a file outside of its package."""
    rows = json.loads(path.read_bytes())["packages"]
    packages = tuple(Package(**{**row, "files": tuple(row["files"])}) for row in rows)
    for package in packages:
        for name in (package.folder, package.tarball, *package.files):
            if not NAME.fullmatch(name):
                raise ValueError(f"{path.name}: {package.name} must not name {name!r}")
    return packages


def obtain(packages: Iterable[Package], registry: str = "", folder: Path = FOLDER) -> None:
    """Bring what is missing of `packages` into `folder`; whoever comes second waits for the first.

    `registry` is the URL of one, "" npm's own. Raises FetchFailed; what was fetched before that stays.
    """
    missing = [package for package in packages if not package.is_in(folder)]
    if not missing:
        return
    try:
        folder.mkdir(exist_ok=True)
        with FileLock(folder / ".lock"):
            for package in missing:
                if not package.is_in(folder):
                    _unpack(package, _download(package, registry or REGISTRY), folder)
    except OSError as error:
        reason = error.strerror or error
        raise FetchFailed(
            f"the page's libraries cannot be written to {folder}: {reason}; see to that, {REMEDY}"
        ) from error


def _download(package: Package, registry: str) -> bytes:
    """Return the tarball, which is the right one."""
    place = _place(registry)
    data = bytearray()
    url = f"{registry.rstrip('/')}/{package.tarball}"
    try:
        with requests.get(url, headers={"Accept-Encoding": "identity"}, stream=True, timeout=TIMEOUT) as response:
            response.raise_for_status()
            for chunk in response.iter_content(CHUNK):
                data += chunk
                if len(data) > PACKED:
                    raise FetchFailed(f"{place} sends more than {package.name} can have; {_other_registry()}")
    except requests.HTTPError as error:
        status = error.response.status_code
        raise FetchFailed(f"{place} answers {status} for {package.tarball}; {_other_registry()}") from error
    except requests.RequestException as error:
        log.info("page: %s of %s: %s", package.tarball, place, type(error).__name__)
        raise FetchFailed(
            f"{place} cannot be reached, or breaks off; look at the network, {_other_registry()}"
        ) from error
    method, _, expected = package.integrity.partition("-")
    if method != "sha512" or base64.b64decode(expected) != hashlib.sha512(data).digest():
        reason = f"{place} sends another {package.name} {package.version} than the lock file names"
        raise FetchFailed(f"{reason}: it has another hash, and was thrown away; {_other_registry()}")
    return bytes(data)


def _place(registry: str) -> str:
    """Return the host of a registry, for a person: its URL may have a password in it."""
    with contextlib.suppress(ValueError):  # of half an address
        parts = urlsplit(registry)
        if parts.scheme in ("https", "http") and parts.hostname:
            return parts.hostname
    raise FetchFailed(f"LIBRARIES_REGISTRY must be a URL such as {REGISTRY}; correct it, {REMEDY}")


def _other_registry() -> str:
    return f"name another registry in LIBRARIES_REGISTRY or try later, {REMEDY}"


def _unpack(package: Package, data: bytes, folder: Path) -> None:
    """Put the files that the lock file names into a folder, which appears when all of them are on the disk."""
    contents = _contents(package, data)
    target, new = folder / package.folder, folder / f".new-{package.folder}"
    shutil.rmtree(new, ignore_errors=True)  # of a run that was killed
    for name, content in contents.items():
        path = new / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    shutil.rmtree(target, ignore_errors=True)  # of a lock file that named other files
    os.replace(new, target)


def _contents(package: Package, data: bytes) -> dict[str, bytes]:
    """Return the content of each file that the lock file names; no name in the tarball becomes a path."""
    found: dict[str, bytes] = {}
    try:
        stream = zlib.decompressobj(wbits=31)
        raw = stream.decompress(data, UNPACKED)
        if not stream.eof:
            raise FetchFailed(f"{package.name} {package.version} is cut off, or larger than a package may be")
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as archive:
            for member in archive:
                name = member.name.partition("/")[2]
                file = archive.extractfile(member) if member.isreg() and name in package.files else None
                if file is not None:
                    found[name] = file.read()
    except (zlib.error, tarfile.TarError) as error:
        raise FetchFailed(f"{package.name} {package.version} is no package that can be read: {error}") from error
    if missing := set(package.files) - set(found):
        raise FetchFailed(f"{package.name} {package.version} has no file {min(missing)}; correct {LOCK.name}, {REMEDY}")
    return found
