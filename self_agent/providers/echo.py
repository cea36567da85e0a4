"""Says back what it was told, predictably and offline: for frontends under development and for tests.

Two messages ask for more: `/fail` fails after the first piece of the reply, `/slow` takes a second a piece.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Union

import orjson

from core.errors import AppError, InvalidRequest, UpstreamError
from self_agent.events import Chunk, Delta, Info
from self_agent.providers.base import Cancellation, ChatMessage, Completion, Provider

MODEL = "echo"
SLOW = 1.0  # seconds a piece
Step = Union[Chunk, Exception, float]  # to yield, to raise, to sleep unless cancelled

_PIECE = re.compile(r"\s*\S+|\s+")  # a word with the space before it, so that joining is exact


class Echo(Provider):
    """Replies `echo: <the last user message>` word by word.

    With `script`, every reply is these steps instead. `last_messages` is what was asked last, and
    `last_options` how.
    """

    name = "echo"
    follows_instructions = False  # what it says back is no title

    def __init__(
        self, *, delay: float = 0.0, script: Sequence[Step] | None = None, context_tokens: int = 32768
    ) -> None:
        """`delay` is in seconds, before each piece."""
        self.context_tokens = context_tokens
        self.last_messages: list[ChatMessage] = []
        self.last_options: Mapping[str, Any] | None = None
        self._delay = delay
        self._script = script

    def stream(
        self,
        messages: list[ChatMessage],
        *,
        model: str | None = None,
        api_key: str | None = None,
        cancel: Cancellation | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Iterator[Chunk]:
        self.last_messages, self.last_options = messages, options
        steps = self._script if self._script is not None else self._steps(messages)
        if steps and isinstance(steps[0], AppError):  # at once, as an upstream that refuses the question
            raise steps[0]
        return _play(steps, cancel or Cancellation())

    def models(self, *, api_key: str | None = None) -> list[str]:
        return [MODEL]

    def default_model(self) -> str:
        return MODEL

    def describe(self) -> str:
        return "echo (says back what it is told)"

    def complete(self, body: bytes, *, api_key: str | None = None, cancel: Cancellation | None = None) -> Completion:
        """Answer a chat completion request as an OpenAI-compatible API would; see `Provider.complete`."""
        try:
            fields = orjson.loads(body)
            messages = [{"role": message["role"], "content": message["content"]} for message in fields["messages"]]
        except (ValueError, LookupError, TypeError):
            raise InvalidRequest("messages: must be a list of objects with a role and a content") from None
        chunks = self.stream(messages, cancel=cancel)
        if fields.get("stream"):
            return Completion(200, "text/event-stream", {}, _events(chunks))
        return Completion(200, "application/json", {}, iter([orjson.dumps(_completion(chunks))]))

    def _steps(self, messages: list[ChatMessage]) -> list[Step]:
        said = _last_user_text(messages)
        pieces: list[str] = _PIECE.findall(f"echo: {said}")
        fails = said.startswith("/fail")
        delay = SLOW if said.startswith("/slow") else self._delay
        steps: list[Step] = []
        for piece in pieces[:1] if fails else pieces:
            steps += [delay, Delta(piece)] if delay else [Delta(piece)]
        if fails:
            return [*steps, UpstreamError("echo: failed, as /fail asks for")]
        prompt = sum(len(str(message["content"]).split()) for message in messages)
        return [*steps, Info(MODEL, _usage(prompt, len(pieces)), "stop")]


def _last_user_text(messages: list[ChatMessage]) -> str:
    return next((str(message["content"]) for message in reversed(messages) if message["role"] == "user"), "")


def _usage(prompt: int, completion: int) -> dict[str, Any]:
    """Count words where an upstream counts tokens."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _play(steps: Sequence[Step], cancel: Cancellation) -> Iterator[Chunk]:
    for step in steps:
        if cancel.wait(step) if isinstance(step, float) else cancel.cancelled:
            return
        if isinstance(step, Exception):
            raise step
        if not isinstance(step, float):
            yield step


def _shell(kind: str, choice: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    choices = [] if choice is None else [{"index": 0, **choice}]
    shell = {"id": "chatcmpl-echo", "object": kind, "created": int(time.time()), "model": MODEL}
    return {**shell, "choices": choices, **more}


def _completion(chunks: Iterator[Chunk]) -> dict[str, Any]:
    """Shape a whole reply. Source: https://platform.openai.com/docs/api-reference/chat/object"""
    text, info = "", Info()
    for chunk in chunks:
        if isinstance(chunk, Delta):
            text += chunk.text
        elif isinstance(chunk, Info):
            info = chunk
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": info.finish_reason or "stop"}
    return _shell("chat.completion", choice, usage=info.usage)


def _events(chunks: Iterator[Chunk]) -> Iterator[bytes]:
    """Shape a streamed reply. Source: https://platform.openai.com/docs/api-reference/chat-streaming"""
    for chunk in chunks:
        if isinstance(chunk, Delta):
            fields = _shell("chat.completion.chunk", {"delta": {"content": chunk.text}, "finish_reason": None})
        elif not isinstance(chunk, Info):
            continue
        else:
            choice = {"delta": {}, "finish_reason": chunk.finish_reason or "stop"}
            fields = _shell("chat.completion.chunk", choice, usage=chunk.usage)
        yield b"data: " + orjson.dumps(fields) + b"\n\n"
    yield b"data: [DONE]\n\n"
