"""The provider contract: messages in, a stream of chunks out, cancelled from any thread."""

from __future__ import annotations

import select
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from self_agent.events import Chunk

T = TypeVar("T")

# {"role": "system" | "user" | "assistant", "content": str}; where functions are called, "tool_calls" and "tool" too
ChatMessage = dict[str, Any]


@dataclass(frozen=True)
class Completion:
    """What an upstream answered to a chat completion request, success or not.

    `body` is its very bytes, as they come, a `Live` where `Provider.stream` returns one.
    """

    status: int
    content_type: str
    headers: dict[str, str]
    body: Iterable[bytes]


def is_readable(fd: int, seconds: float) -> bool:
    """Wait until a descriptor can be read, or for so many seconds; return whether it can."""
    if not hasattr(select, "poll"):  # Windows; elsewhere `select` takes no descriptor over 1023
        return bool(select.select([fd], [], [], seconds)[0])
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


class Live(ABC, Generic[T]):
    """An answer whose upstream can be waited for together with many others, in one thread (`turns.hub`).

    Whoever reads it calls `receive`, and again each time when `fileno()` can be read, until `is_over`. Iterating
    does the same and waits; it raises `failure`. Closing lets go of the upstream, and may wait a moment for it.
    """

    silence: float  # seconds without anything after which an upstream is given up, with `give_up`
    is_over = False  # there is nothing more to wait for
    failure: Exception | None = None  # why it is over, unless it ended well

    @abstractmethod
    def fileno(self) -> int:
        """Return the descriptor that can be read when more has come; it is the same until `close`."""

    @abstractmethod
    def receive(self) -> list[T]:
        """Return what has come, without ever waiting; then nothing is left that `fileno()` does not tell of."""

    @abstractmethod
    def give_up(self) -> None:
        """End an answer that has been silent for too long: `is_over`, and `failure` says so, unless it was whole.

        What is left then, `receive` returns once more.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the upstream. Calling it twice is harmless."""

    def __iter__(self) -> Iterator[T]:
        try:
            while True:
                yield from self.receive()
                if self.is_over:
                    break
                if not is_readable(self.fileno(), self.silence):
                    self.give_up()
            if self.failure is not None:
                raise self.failure
        finally:
            self.close()


class Cancellation:
    """A stop signal that also interrupts what is blocked.

    `on_cancel` registers what must be shut down (a socket) so that a blocked read returns at once; it is
    called immediately if the signal came first, and in the thread that cancels.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self._event = threading.Event()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep unless cancelled; return whether it was."""
        return self._event.wait(seconds)

    def on_cancel(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if not self._event.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def cancel(self) -> None:
        """Give the signal; calling it again does nothing."""
        with self._lock:
            if self._event.is_set():
                return
            self._event.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


class Provider(ABC):
    """A way to reach a model."""

    name: str  # for the banner, logs and /healthz
    context_tokens: int  # how much history and reply fit together
    system_prompt: str = ""  # instructions for a conversation that has none
    follows_instructions = True  # can be asked for a title
    has_room = True  # a question beside the users' own holds none of theirs up

    @abstractmethod
    def stream(
        self,
        messages: list[ChatMessage],
        *,
        model: str | None = None,
        api_key: str | None = None,
        cancel: Cancellation | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Iterable[Chunk]:
        """Ask for a reply to `messages`.

        Returns when the model has accepted the question, so whatever can fail with a status of its own
        raises here (`UpstreamError` and its kin, `ModelUnavailable`); a failure after that raises where the
        chunks are iterated. They end when the reply ends, or soon after `cancel`. Where many upstreams can be
        waited for in one thread they are a `Live`, which must be closed; else an iterator. `api_key` is used for
        this request only and never kept. `options` are further fields of a chat completion request, such as
        `temperature` and `tools`; what no model understands is left out by who passes them. The last `Info` names the
        model.
        """

    @abstractmethod
    def complete(self, body: bytes, *, api_key: str | None = None, cancel: Cancellation | None = None) -> Completion:
        """Pass on the body of a `POST /v1/chat/completions`, stream or not, untouched.

        The model is filled in where the body names none. An error status is passed back like any other
        answer; only what never became one raises.
        """

    @abstractmethod
    def models(self, *, api_key: str | None = None) -> list[str]:
        """Return the names of the models that can be asked for. Raises like `stream`."""

    @abstractmethod
    def describe(self) -> str:
        """Return the default model's name, or a few words on what will answer; never calls out."""

    def default_model(self) -> str | None:
        """Return the model that answers where none is asked for; None while none is known; never calls out."""
        return None

    def check(self) -> None:
        """Raise ModelUnavailable if a question asked now could not be answered; never calls out."""

    def status(self) -> dict[str, Any]:
        """Return the model's `name` and `state` for /healthz, and what else there is to say; never calls out."""
        return {"name": self.describe(), "state": "ready"}

    def start(self) -> None:
        """Begin in the background what must be ready before the first question."""

    def close(self) -> None:
        """Let go of connections and child processes. Calling it twice is harmless."""
