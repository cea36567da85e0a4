"""A plain completion of the embedded model is a stream put together: one that nobody waits for can be let go of.

llama.cpp sends not even a status before a plain completion is whole, so the request's thread would wait for it and
nobody would see that its client has gone.
"""

from __future__ import annotations

from typing import Any

import orjson

from core.errors import UpstreamError
from self_agent.providers.base import Live
from self_agent.providers.openai import errors as upstream_errors
from self_agent.providers.openai.answer import Answer
from self_agent.providers.openai.chunks import error_in
from self_agent.providers.openai.decoder import SSEDecoder
from self_agent.providers.openai.reply import DONE

# With `return_progress` the status comes before the prompt has been read, which can take minutes.
AS_STREAM = {"stream": True, "stream_options": {"include_usage": True}, "return_progress": True}
# Who must call a tool must not end before: a small model that has written the call as text writes newlines after it.
CALL_TOKENS = 256
UNFORCED = (None, "auto", "none")
LIMITS = ("max_tokens", "max_completion_tokens", "n_predict")
ONLY_IN_STREAMS = ("choices", "object", "prompt_progress")


def prepared(body: bytes) -> tuple[bytes, bool]:
    """Return the body to send, and whether it asks for a stream where a plain completion is wanted."""
    try:
        fields = orjson.loads(body)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        return body, False  # llama.cpp knows best how to refuse it
    if fields.get("tool_choice") not in UNFORCED and not any(name in fields for name in LIMITS):
        fields["max_tokens"] = CALL_TOKENS
    # llama.cpp refuses logprobs with tools in a stream.
    is_put_together = not (fields.get("stream") or (fields.get("logprobs") and fields.get("tools")))
    return orjson.dumps({**fields, **AS_STREAM} if is_put_together else fields), is_put_together


class Whole(Live[bytes]):
    """The plain completion that a streamed answer amounts to; it comes in one piece, at the end."""

    def __init__(self, answer: Answer) -> None:
        self.silence = answer.silence
        self._answer = answer
        self._decoder = SSEDecoder()
        self._fields: dict[str, Any] = {}  # all but the choices
        self._choices: dict[int, dict[str, Any]] = {}

    def fileno(self) -> int:
        return self._answer.fileno()

    def receive(self) -> list[bytes]:
        try:
            for data in self._decoder.feed(self._answer.take()):
                if data == DONE:
                    self.is_over = True
                    return [self._completion()]
                self._add(orjson.loads(data))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            self._end(upstream_errors.nonsense(f"what is no chat completion ({error})", self._answer.where))
        except UpstreamError as error:
            self._end(error)
        if self._answer.is_over and not self.is_over:
            self._end(self._answer.failure or upstream_errors.cut_off(None, self._answer.where))
        return []

    def give_up(self) -> None:
        self._answer.give_up()
        self._end(self._answer.failure)

    def close(self) -> None:
        if self.is_over and self.failure is None and not self._answer.cancel.cancelled:
            self._answer.finish()
        self._answer.close()

    def _end(self, failure: Exception | None) -> None:
        self.is_over = True
        self.failure = None if self._answer.cancel.cancelled else failure

    def _add(self, chunk: dict[str, Any]) -> None:
        if error := error_in(chunk):
            raise upstream_errors.reported(error, self._answer.where, "")
        self._fields.update({name: value for name, value in chunk.items() if name not in ONLY_IN_STREAMS})
        for part in chunk["choices"]:
            message: dict[str, Any] = {"role": "assistant", "content": None}
            choice = self._choices.setdefault(
                part["index"], {"finish_reason": None, "index": part["index"], "message": message}
            )
            choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]
            if logprobs := part.get("logprobs"):
                choice.setdefault("logprobs", {"content": []})["content"] += logprobs["content"]
            merge(choice["message"], part["delta"])

    def _completion(self) -> bytes:
        choices = [self._choices[index] for index in sorted(self._choices)]
        return orjson.dumps({"choices": choices, "object": "chat.completion", **self._fields})


def merge(message: dict[str, Any], delta: dict[str, Any]) -> None:
    """Add to a message, or to a part of one, what a delta says: text is continued, calls are told by their index."""
    for name, value in delta.items():
        if name == "tool_calls":
            calls = message.setdefault(name, [])
            for call in value:
                while len(calls) <= call["index"]:
                    calls.append({})
                merge(calls[call["index"]], {key: call[key] for key in call if key != "index"})
        elif isinstance(value, dict):
            merge(message.setdefault(name, {}), value)
        elif name in ("content", "reasoning_content", "arguments") and isinstance(message.get(name), str):
            message[name] += value or ""
        elif value is not None:
            message[name] = value
