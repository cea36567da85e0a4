"""The embedded model is one child process with an OpenAI-compatible API; `OpenAICompatible` does the talking."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from core.config import Settings
from core.errors import ModelUnavailable, UpstreamError
from core.logs import SHOWN, terminal
from self_agent.events import Chunk
from self_agent.providers.base import Cancellation, ChatMessage, Completion, Provider
from self_agent.providers.local.process import CLOSE_TIMEOUT, CONTEXT_TOKENS, ModelProcess
from self_agent.providers.local.sources import Progress
from self_agent.providers.local.weights import REMEDY, SMALLEST, Weights, check_gguf, named, obtain
from self_agent.providers.local.whole import Whole, prepared
from self_agent.providers.openai.answer import Answer
from self_agent.providers.openai.provider import OpenAICompatible

log = logging.getLogger(__name__)
T = TypeVar("T")

READ_TIMEOUT = 300.0  # seconds; a slow processor needs minutes for a prompt of 4096 tokens before its first word
CRASHES, CRASH_WINDOW = 3, 60.0  # so many within so many seconds are not an accident
DYING = 0.2  # seconds between the end of a process's connections and its own
RETRY_AFTER = 2.0
FAILURE_LASTS = 60.0  # seconds until a question makes it try again what failed: the network may be back
TOO_LONG = f"this is more than the {CONTEXT_TOKENS} tokens that the embedded model can take; send less at once"
STOPPING = "the server is stopping"
SYSTEM_PROMPT = "You are {}, a helpful assistant: a small open language model that runs on the user's own computer."
UNFORESEEN = f"the embedded model cannot be started (see the log); {REMEDY}"


def local_model(settings: Settings) -> LocalModel:
    """Return the embedded model that the settings ask for."""
    path = settings.local_model_path
    return LocalModel(
        Path(path).expanduser() if path else named(settings.local_model),
        settings.data_dir / "models",
        log_file=settings.log_dir / "model.log",
        read_timeout=max(settings.read_timeout, READ_TIMEOUT),
        fallback=named(SMALLEST) if settings.local_model != SMALLEST else None,
    )


@dataclass(frozen=True)
class _Status:
    state: str  # "downloading", "loading", "ready" or "failed"
    words: str = ""  # which model is being loaded or downloaded, or why it failed
    progress: float = 0.0
    source: str = ""  # where the weights are being downloaded from


class LocalModel(Provider):
    """The embedded model, fetched and loaded in the background, and started again when it crashed."""

    name = "local"
    context_tokens = CONTEXT_TOKENS
    has_room = False  # two replies at once

    def __init__(
        self,
        weights: Weights | Path,
        models_dir: Path,
        *,
        log_file: Path,
        read_timeout: float = READ_TIMEOUT,
        fallback: Weights | None = None,
    ) -> None:
        """`fallback` answers instead when `weights` cannot be had."""
        self._weights = weights
        self._fallback = fallback
        self._models_dir = models_dir
        self._log_file = log_file
        self._read_timeout = read_timeout
        self._name_model(weights.stem if isinstance(weights, Path) else weights.name)
        self._status = _Status("loading", f"{self._model} is being loaded")
        self._lock = threading.Lock()  # held where a thread or a process is started
        self._thread: threading.Thread | None = None
        self._process: ModelProcess | None = None
        self._crashed_at: list[float] = []
        self._failed_at = 0.0
        self._closed = False

    def describe(self) -> str:
        return self._model

    def default_model(self) -> str:
        return self._model

    def models(self, *, api_key: str | None = None) -> list[str]:
        return [self._model]

    def status(self) -> dict[str, Any]:
        status = self._status
        shown = {"name": self._model, "state": status.state, "progress": status.progress}
        if status.source:
            shown["source"] = status.source
        return {**shown, "error": status.words} if status.state == "failed" else shown

    def start(self) -> None:
        with self._lock:
            running = self._thread is not None and self._thread.is_alive()
            failed_lately = self._status.state == "failed" and time.monotonic() - self._failed_at < FAILURE_LASTS
            if running or failed_lately or self._closed or self._status.state == "ready":
                return
            self._status = _Status("loading", f"{self._model} is being loaded")
            self._thread = threading.Thread(target=self._prepare, name="local-model", daemon=True)
            self._thread.start()

    def check(self) -> None:
        if self._status.state != "ready":
            self.start()
        status = self._status
        if status.state == "failed":
            raise ModelUnavailable(status.words, retry_after=FAILURE_LASTS)
        if status.state != "ready":
            raise ModelUnavailable(f"the model {status.words}; try again shortly", retry_after=RETRY_AFTER)

    def stream(
        self,
        messages: list[ChatMessage],
        *,
        model: str | None = None,
        api_key: str | None = None,
        cancel: Cancellation | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Iterable[Chunk]:
        """Ask the embedded model, whatever model was asked for and whatever key came along."""
        return self._ask(lambda client: client.stream(messages, cancel=cancel, options=options))

    def complete(self, body: bytes, *, api_key: str | None = None, cancel: Cancellation | None = None) -> Completion:
        """Pass a request on; llama.cpp ignores the model it asks for, and names its own in the answer."""
        asked, is_put_together = prepared(body)
        completion = self._ask(lambda client: client.complete(asked, cancel=cancel))
        if not (is_put_together and isinstance(completion.body, Answer)):  # which a refusal's is not
            return completion
        return Completion(completion.status, "application/json; charset=utf-8", {}, Whole(completion.body))

    def close(self) -> None:
        self._closed = True
        self._status = _Status("failed", STOPPING)
        if self._process is not None:
            self._process.close()
        if self._thread is not None:
            self._thread.join(CLOSE_TIMEOUT)  # a download notices at its next chunk

    def _prepare(self) -> None:
        with contextlib.suppress(ModelUnavailable), self._failure_noted():
            weights = self._weights
            self._load(check_gguf(weights) if isinstance(weights, Path) else self._obtain(weights))

    def _obtain(self, weights: Weights) -> Path:
        """Return the file of the weights, or of the fallback, which then answers under its own name."""
        self._name_model(weights.name)  # an attempt before this one may have ended with the fallback's
        try:
            return self._fetch(weights)
        except ModelUnavailable as error:
            if self._fallback is None or self._closed:
                raise
            wanted = error
        name = self._fallback.name
        log.info("model: %s shall answer instead until the next start", name, extra=SHOWN)
        try:
            path = self._fetch(self._fallback)
        except ModelUnavailable as error:
            log.info("%s", error.message)
            raise wanted from error  # nobody asked for the other one
        self._name_model(name)
        return path

    def _fetch(self, weights: Weights) -> Path:
        show = progress_line(weights.name)
        source = ""

        def begins(place: str) -> None:
            nonlocal source
            source = place

        def note(done: int, total: int) -> None:
            if self._closed:
                raise ModelUnavailable(STOPPING)
            words = f"{weights.name} is being downloaded: {100 * done // total} % of {total // 1_000_000} MB"
            self._status = _Status("downloading", words, done / total, source)
            show(done, total)

        try:
            return obtain(weights, self._models_dir, note, begins)
        finally:
            terminal.end_bar()

    def _name_model(self, name: str) -> None:
        self._model = name
        self.system_prompt = SYSTEM_PROMPT.format(name)

    def _load(self, path: Path) -> None:
        self._status = _Status("loading", f"{self._model} is being loaded", 1.0)
        begun = time.monotonic()
        self._process = process = ModelProcess(path, self._model, self._log_file)
        if self._closed:  # `close` looked for a process before there was one
            process.close()
        process.connect(self._read_timeout)
        log.info("model: %s is ready, loaded in %.1f s", self._model, time.monotonic() - begun, extra=SHOWN)
        self._status = _Status("ready", progress=1.0)

    def _ask(self, question: Callable[[OpenAICompatible], T]) -> T:
        self.check()
        process = self._living()
        try:
            return question(process.client)
        except UpstreamError as error:
            if "context size" in error.message:  # llama.cpp's words, which advise what a client cannot do
                raise UpstreamError(TOO_LONG) from error
            if not process.ended(DYING):
                raise
        return question(self._living().client)  # it died after it was looked at, and has answered nothing

    def _living(self) -> ModelProcess:
        """Return the process, a new one if it has crashed: while that loads, other questions wait here."""
        with self._lock, self._failure_noted():
            assert self._process is not None
            if self._process.ended():
                self._process.close()
                self._count_crash()
                self._load(self._process.model)
            return self._process

    def _count_crash(self) -> None:
        now = time.monotonic()
        log.error("the process of the model %s ended by itself; see %s", self._model, self._log_file)
        self._crashed_at = [moment for moment in self._crashed_at if now - moment < CRASH_WINDOW] + [now]
        if len(self._crashed_at) >= CRASHES:
            raise ModelUnavailable(
                f"the embedded model crashed {CRASHES} times within a minute (see model.log), "
                f"perhaps for want of memory; {REMEDY}"
            )

    @contextlib.contextmanager
    def _failure_noted(self) -> Iterator[None]:
        """Keep what goes wrong as the status. Raises ModelUnavailable, whatever it was."""
        try:
            yield
        except Exception as error:
            foreseen = isinstance(error, ModelUnavailable)
            words = STOPPING if self._closed else str(error) if foreseen else UNFORESEEN
            log.log(logging.INFO if self._closed else logging.ERROR, "%s", words, exc_info=not foreseen)
            if not self._closed:
                log.info("model: the next question that comes in a minute or later tries again", extra=SHOWN)
            self._failed_at = time.monotonic()
            self._status = _Status("failed", words)
            raise ModelUnavailable(words, retry_after=FAILURE_LASTS) from error


def progress_line(name: str) -> Progress:
    """Return a progress that redraws a line of the terminal, or logs every 10 % where there is none."""
    drawn = -1

    def show(done: int, total: int) -> None:
        nonlocal drawn
        percent = 100 * done // total
        text = f"{name}: {percent:3} % of {total // 1_000_000} MB"
        if not terminal.has_room():
            if percent // 10 != drawn // 10:
                log.info("downloading %s", text)
        elif percent != drawn:
            terminal.draw_bar(f"[{'#' * (percent // 4):25}] {text}")
        drawn = percent
        if done == total:
            terminal.end_bar()

    return show
