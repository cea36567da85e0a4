"""A reply is what an upstream's answer says, chunk by chunk as it comes, with one end however that is told."""

from __future__ import annotations

from core.errors import UpstreamError
from self_agent.events import Chunk, Delta
from self_agent.providers.base import Live
from self_agent.providers.openai import errors as upstream_errors
from self_agent.providers.openai.answer import LARGEST_BODY, Answer
from self_agent.providers.openai.chunks import LOST, ChunkParser, ReplyReader, error_in
from self_agent.providers.openai.decoder import SSEDecoder

DONE = b"[DONE]"


class Reply(Live[Chunk]):
    """The reply that an answer streams, or is."""

    def __init__(self, answer: Answer, key: str) -> None:
        """`key` is kept out of what the upstream says of a failure."""
        self.silence = answer.silence
        self._answer = answer
        self._key = key
        self._parser = ChunkParser()
        self._reader = ReplyReader()
        self._decode = self._collected if "json" in answer.content_type else SSEDecoder().feed
        self._collection = bytearray()  # of an answer that is not streamed
        self._is_done = False
        self._last: list[Chunk] = []

    def fileno(self) -> int:
        return self._answer.fileno()

    def receive(self) -> list[Chunk]:
        chunks, self._last = self._last, []
        if self.is_over:
            return chunks
        try:
            for data in self._decode(self._answer.take()):
                if data == DONE:
                    self._is_done = self._reader.ended = True
                    break
                chunks += self._read(data)
        except ValueError as error:
            what = f"what is no chat completion ({error})"
            self._end(upstream_errors.nonsense(what, self._answer.where))
        except UpstreamError as error:
            self._end(error)
        else:
            if self._is_done or self._answer.is_over:
                chunks += self._ended()
        return chunks

    def _collected(self, content: bytes) -> list[bytes]:
        self._collection += content
        if len(self._collection) > LARGEST_BODY:
            raise ValueError("it does not end")
        return [bytes(self._collection)] if self._answer.is_over and not self._answer.failure else []

    def _read(self, data: bytes) -> list[Chunk]:
        chunk = self._parser.parse(data)
        if error := error_in(chunk):
            raise upstream_errors.reported(error, self._answer.where, self._key)
        chunks = self._reader.read(chunk)
        return [Delta(LOST), *chunks] if self._parser.lost else chunks

    def _end(self, failure: Exception | None) -> None:
        self.is_over = True
        self.failure = None if self._answer.cancel.cancelled else failure

    def _ended(self) -> list[Chunk]:
        """End it; return what is still to be said."""
        if not self._reader.ended:
            self._end(self._answer.failure or self._broken_off())
            return []
        self._end(None)
        if self._answer.cancel.cancelled:
            return []
        lost: list[Chunk] = [Delta(LOST)] if self._parser.half else []
        return [*lost, self._reader.info()]

    def _broken_off(self) -> UpstreamError:
        answer = self._answer
        if self._reader.begun or "event-stream" in answer.content_type:
            return upstream_errors.cut_off(None, answer.where)
        return upstream_errors.nonsense("what is no chat completion", answer.where)

    def give_up(self) -> None:
        self._answer.give_up()
        self._last = self._ended()

    def close(self) -> None:
        if self.is_over and self.failure is None and not self._answer.cancel.cancelled:
            self._answer.finish()
        self._answer.close()
