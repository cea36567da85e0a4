"""Any OpenAI-compatible API is asked in its own terms, and its answer relayed token by token as it comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from core.errors import ModelUnavailable, UpstreamError
from self_agent.events import Chunk
from self_agent.providers.base import Cancellation, ChatMessage, Completion, Provider
from self_agent.providers.openai import errors as upstream_errors
from self_agent.providers.openai.answer import Answer
from self_agent.providers.openai.client import UpstreamClient
from self_agent.providers.openai.reply import Reply

MODELS_SECONDS = 60.0  # how long the list of models is kept
POE_KEY = "poe-sk-"  # begins a key that nobody sends by mistake
ERROR_BODY = 64 * 1024  # bytes of an error's body that are read for its message
PASSED_HEADERS = ("cache-control", "retry-after", "x-request-id")
COMPLETIONS = "/chat/completions"
OPENAI_HOST = "api.openai.com"
CLIENT_CLOSED_REQUEST = 499  # nginx's number for a request that nobody waits for any more


class OpenAICompatible(Provider):
    """An OpenAI-compatible API, such as OpenAI, Poe, DeepSeek, Ollama, llama.cpp or vLLM."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str = "",
        takes_callers_keys: bool = False,
        model: str = "",
        connect_timeout: float = 10.0,
        read_timeout: float = 120.0,
        retries: int = 2,
        context_tokens: int = 32768,
        name: str = "openai",
    ) -> None:
        """Raises StartupError if `base_url` is not an HTTP URL."""
        self.name = name
        self.context_tokens = context_tokens
        self._client = UpstreamClient(base_url, (connect_timeout, read_timeout), retries)
        self._api_key = api_key
        self._takes_callers_keys = takes_callers_keys
        self._model = model
        self._first_model = ""  # of the upstream's list, once it was needed
        self._asks_usage = True  # until the upstream says that it does not know `stream_options`
        self._models_lock = threading.Lock()
        self._models: list[str] = []
        self._models_until = 0.0

    def describe(self) -> str:
        return self._model or self._client.host

    def default_model(self) -> str | None:
        """Return the configured model, else the upstream's first, once its list was needed."""
        return self._model or self._first_model or next(iter(self._models), None)

    def close(self) -> None:
        self._client.close()

    def stream(
        self,
        messages: list[ChatMessage],
        *,
        model: str | None = None,
        api_key: str | None = None,
        cancel: Cancellation | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Iterable[Chunk]:
        cancel = cancel or Cancellation()
        key = self._key(api_key)
        name = model or self._default_model(key, cancel)
        answer = self._ask({**self._known(options), "model": name, "messages": messages, "stream": True}, key, cancel)
        if answer is None:
            return iter(())
        self._raise_for_status(answer, key)
        return Reply(answer, key)

    def models(self, *, api_key: str | None = None) -> list[str]:
        if (key := self._key(api_key)) != self._key(None):
            return self._list_models(key, Cancellation())
        with self._models_lock:  # held while asking, so that many at once ask once
            if time.monotonic() >= self._models_until:
                self._models = self._list_models(self._key(None), Cancellation())
                self._models_until = time.monotonic() + MODELS_SECONDS
            return list(self._models)

    def complete(self, body: bytes, *, api_key: str | None = None, cancel: Cancellation | None = None) -> Completion:
        """Pass a chat completion request on as it is; see `Provider.complete`."""
        cancel = cancel or Cancellation()
        key = self._key(api_key)
        named = self._with_model(body, key, cancel)
        answer = self._client.send("POST", COMPLETIONS, named, key=key, cancel=cancel)
        if answer is None:
            return Completion(CLIENT_CLOSED_REQUEST, "text/plain", {}, iter(()))
        headers = {name: answer.headers[name] for name in PASSED_HEADERS if name in answer.headers}
        content: Iterable[bytes] = answer
        if answer.status >= 400:
            content = [upstream_errors.without_key(_error_body(answer), key)]
        else:
            answer.wait()
        return Completion(answer.status, answer.content_type, headers, content)

    def _known(self, options: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return options under the names that this upstream knows."""
        known = dict(options or {})
        if "max_tokens" in known and self._client.host == OPENAI_HOST:  # whose newer models refuse the name of others
            known["max_completion_tokens"] = known.pop("max_tokens")
        return known

    def _key(self, api_key: str | None) -> str:
        """Return the key to ask with: SDKs insist on one, so what a caller sends may be `EMPTY` or `dummy`."""
        key = api_key or ""
        is_meant = key and (self._takes_callers_keys or not self._api_key or key.startswith(POE_KEY))
        return (key if is_meant else self._api_key).strip()

    def _with_model(self, body: bytes, key: str, cancel: Cancellation) -> bytes:
        """Return the body to send: the very bytes where it names a model."""
        try:
            fields = orjson.loads(body)
        except ValueError:
            fields = None  # the upstream knows best how to refuse it
        if isinstance(fields, dict) and not fields.get("model"):
            return orjson.dumps({**fields, "model": self._default_model(key, cancel)})
        return body

    def _default_model(self, key: str, cancel: Cancellation) -> str:
        """Return the default model, asking for it if need be; "" if cancelled meanwhile."""
        name = self.default_model()
        if not name:
            names = self._list_models(key, cancel)
            if not names and not cancel.cancelled:
                raise ModelUnavailable(f"{self._client.where} lists no models; set OPENAI_MODEL")
            name = self._first_model = names[0] if names else ""
        return name

    def _list_models(self, key: str, cancel: Cancellation) -> list[str]:
        answer = self._client.send("GET", "/models", key=key, cancel=cancel)
        if answer is None:
            return []
        self._raise_for_status(answer, key)
        try:
            return [model["id"] for model in orjson.loads(answer.read())["data"] if isinstance(model["id"], str)]
        except (ValueError, LookupError, TypeError):
            raise upstream_errors.nonsense("no list of models", self._client.where) from None

    def _ask(self, body: dict[str, Any], key: str, cancel: Cancellation) -> Answer | None:
        """Ask for a stream, with its usage at the end unless the upstream is known to refuse that."""
        if not self._asks_usage:
            return self._client.send("POST", COMPLETIONS, orjson.dumps(body), key=key, cancel=cancel)
        with_usage = orjson.dumps({**body, "stream_options": {"include_usage": True}})
        answer = self._client.send("POST", COMPLETIONS, with_usage, key=key, cancel=cancel)
        if answer is None or answer.status != 400:
            return answer
        refusal = _error_body(answer)
        if b"stream_options" not in refusal:
            raise upstream_errors.refused(400, answer.headers, refusal, self._client.where, key)
        self._asks_usage = False
        return self._ask(body, key, cancel)

    def _raise_for_status(self, answer: Answer, key: str) -> None:
        if not 200 <= answer.status < 300:
            body = _error_body(answer)
            raise upstream_errors.refused(answer.status, answer.headers, body, self._client.where, key)


def _error_body(answer: Answer) -> bytes:
    try:
        return answer.read(ERROR_BODY)
    except UpstreamError:
        return b""  # the status says enough
