"""A chat completion, whole or in chunks, is read into the events of a reply; no I/O.

The shapes: https://platform.openai.com/docs/api-reference/chat-streaming, and what OpenRouter, DeepSeek,
Ollama and Perplexity add to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from self_agent.events import CallDelta, Chunk, Delta, Info, Sources

LOST = "\ufffd"
_HALVES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\[^u]"  # nothing to mend
    rb"|(\"?)(\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(\\u[dD][89abAB][0-9a-fA-F]{2})(\"?)"
)


class ChunkParser:
    """Parses JSON texts in which a character may be cut in two: its first half ends a string, the second begins one.

    Halves of surrogate pairs, that is, which some tokenizers make of an emoji. One without the other is `LOST`.
    """

    def __init__(self) -> None:
        self.half = b""  # the escape of a first half that waits for its second
        self.lost = b""  # one that waited in vain for the text parsed last

    def parse(self, data: bytes) -> Any:
        """Return the value of a JSON text. Raises ValueError if it is none."""
        self.lost, self.half = self.half, b""
        try:
            return orjson.loads(data)
        except ValueError:
            return orjson.loads(_HALVES.sub(self._mended, data))

    def _mended(self, match: re.Match[bytes]) -> bytes:
        before, second, first, after = match.groups()
        if second and before and self.lost:
            half, self.lost = self.lost, b""
            return b'"' + half + bytes(second)
        if first and after and not self.half:
            self.half = first
            return b'"'
        return (before or b"") + b"\\ufffd" + (after or b"") if first or second else match[0]


def error_in(chunk: Any) -> Any:
    """Return the error that an upstream sends in the place of a chunk, after it has answered 200; else None."""
    if not isinstance(chunk, dict):
        return None
    if chunk.get("object") == "error":  # older vLLM: the fields without a wrapping
        return chunk
    return chunk.get("error")


class ReplyReader:
    """Reads one reply and remembers what `Info` will say of it."""

    def __init__(self) -> None:
        self.begun = False  # something came that is at least an object
        self.ended = False  # the upstream said so; a stream may also just stop
        self._finish_reason: str | None = None
        self._model: str | None = None
        self._usage: dict[str, Any] | None = None
        self._sources: dict[str, dict[str, Any]] = {}  # by URL, in the order they came

    def read(self, chunk: Any) -> list[Chunk]:
        """Return what a chunk object, or a whole completion, adds to the reply.

        Raises ValueError if it is neither.
        """
        chunk = _mapping(chunk, "chunk")
        events: list[Chunk] = []
        self.begun = True
        if (chunk.get("model") != self._model or "usage" in chunk) and self._note(chunk):
            events.append(Info(model=self._model))  # at once: a reply that is stopped has an author too
        known = len(self._sources)
        if "citations" in chunk or "search_results" in chunk:
            self._add_sources(_perplexity_sources(chunk))
        choices = chunk.get("choices")
        if choices:
            choice = _first(_items(choices, "choices"))
            if reason := choice.get("finish_reason"):
                self._finish_reason, self.ended = reason if isinstance(reason, str) else None, True
            message = choice.get("message")  # a whole completion
            self.ended = self.ended or bool(message)
            delta = _mapping(choice.get("delta") or message, "delta")
            if "annotations" in delta:
                self._add_sources(_annotated_sources(delta))
            reasoning = _text(delta.get("reasoning_content") or delta.get("reasoning"))
            text = _text(delta.get("content"))
            if text or reasoning:
                events.append(Delta(text, reasoning))
            if "tool_calls" in delta:
                events += _calls(delta)
        if len(self._sources) > known:
            events.append(Sources(list(self._sources.values())))
        return events

    def info(self) -> Info:
        return Info(model=self._model, usage=self._usage, finish_reason=self._finish_reason)

    def _note(self, chunk: dict[str, Any]) -> bool:
        """Keep what `Info` needs; return whether the model was named for the first time."""
        usage = chunk.get("usage")
        if usage and isinstance(usage, dict):
            self._usage = usage
        model = chunk.get("model")
        if model == self._model or not model or not isinstance(model, str):
            return False
        self._model = model
        return True

    def _add_sources(self, sources: Iterable[dict[str, Any]]) -> None:
        for source in sources:
            if isinstance(source.get("url"), str):
                flat = {name: value for name, value in source.items() if not isinstance(value, (dict, list))}
                self._sources.setdefault(source["url"], {"type": "url", **flat})


def _first(choices: list[Any]) -> dict[str, Any]:
    """Return the choice that is the reply; an upstream that was asked for one may send others."""
    for choice in choices:
        mapping = _mapping(choice, "choice")
        if not mapping.get("index"):
            return mapping
    return {}


def _perplexity_sources(chunk: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for result in _items(chunk.get("search_results"), "search_results"):  # first: they also have titles
        if isinstance(result, dict):
            yield {name: result[name] for name in ("url", "title", "date") if result.get(name)}
    for url in _items(chunk.get("citations"), "citations"):
        yield {"url": url, "title": url}


def _annotated_sources(delta: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for annotation in _items(delta["annotations"], "annotations"):
        if isinstance(annotation, dict) and annotation.get("type") == "url_citation":
            inner = annotation.get("url_citation")
            fields = inner if isinstance(inner, dict) else annotation
            yield {name: value for name, value in fields.items() if name != "type"}


def _calls(delta: dict[str, Any]) -> Iterator[CallDelta]:
    for place, call in enumerate(_items(delta["tool_calls"], "tool_calls")):
        fields = _mapping(call, "tool call")
        function = _mapping(fields.get("function"), "function")
        index, arguments = fields.get("index", place), function.get("arguments") or ""
        if type(index) is not int or not isinstance(arguments, str):
            raise ValueError("a tool call without a place or arguments")
        yield CallDelta(index, arguments, str(fields.get("id") or ""), str(function.get("name") or ""))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    parts = [_mapping(part, "content part").get("text") or "" for part in _items(value, "content")]
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("a content part that is not text")
    return "".join(parts)


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if value is None:
        return {}
    raise ValueError(f"a {what} that is not an object")


def _items(value: Any, what: str) -> list[Any]:
    if isinstance(value, list):
        return value
    if value is None:
        return []
    raise ValueError(f"{what} that are not a list")
