"""LiteLLM's proxy, one worker without a database: it stores nothing, so the client sends the whole history."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests

from benchmarks.answers import SEND, Kind
from benchmarks.peers.base import LINE, RELAY, Peer, launched
from benchmarks.route import COMPLETIONS, Asking, Route, completion, request
from benchmarks.stream_load import Client, Target

THROUGH = "through"  # its pass-through: it relays bytes and counts nothing
PASS_THROUGH = "/raw"


class LiteLLM(Peer):
    """The proxy, kept from the network, from logging, and from asking for keys, as self_agent does not."""

    name = "LiteLLM"
    package = "litellm"
    stores = False

    @classmethod
    @contextlib.contextmanager
    def started(cls, folder: Path, port: int) -> Iterator[Peer]:
        """Run it with one model, no retries, no callbacks, and its pass-through to the same upstream."""
        (folder / "settings.yaml").write_text(json.dumps(settings(port)))  # JSON is YAML
        (folder / "log.json").write_text(json.dumps({"version": 1, "loggers": {"uvicorn.access": {"level": "ERROR"}}}))
        options = "--host 127.0.0.1 --num_workers 1 --keepalive_timeout 75 --config settings.yaml --log_config log.json"
        with launched(folder, ["litellm", *options.split(), "--port"], environment(), cls.package) as running:
            yield cls(running)

    def route(self, way: str) -> Asking | None:
        """Return a connection that is kept alive."""
        paths = {RELAY: COMPLETIONS, THROUGH: PASS_THROUGH}
        return Route(*self.running, paths[way]) if way in paths else None

    def sends(self, name: str) -> Callable[[], bytes]:
        """Return a completion of one message, always the same."""
        data = request(COMPLETIONS, completion(SEND.word, stream=False))
        return lambda: data

    def long(self, messages: int) -> Callable[[], bytes]:
        """Return a completion with the whole history."""
        body = completion(SEND.word, stream=False)
        roles = ("user", "assistant")
        body["messages"] = [*({"role": roles[n % 2], "content": LINE} for n in range(messages)), *body["messages"]]
        data = request(COMPLETIONS, body)
        return lambda: data

    def streams(self, way: str) -> Client | None:
        """Return a client of event streams."""
        return Client(Target(*self.running)) if way == RELAY else None

    def begin(self, kind: Kind) -> Iterator[bytes]:
        """Ask for a completion."""
        url = f"http://127.0.0.1:{self.running.port}{COMPLETIONS}"
        with requests.post(url, json=completion(kind.word), stream=True, timeout=30) as answer:
            yield from answer.iter_lines(chunk_size=1)


def settings(port: int) -> dict[str, Any]:
    """Return its settings."""
    base = f"http://127.0.0.1:{port}"
    model = {"model": "openai/m", "api_base": f"{base}/v1", "api_key": "none"}
    through = {"path": PASS_THROUGH, "target": base + COMPLETIONS, "headers": {"content-type": "application/json"}}
    return {
        "model_list": [{"model_name": "m", "litellm_params": model}],
        "litellm_settings": {"num_retries": 0, "callbacks": []},
        "general_settings": {"pass_through_endpoints": [through]},
    }


def environment() -> dict[str, str]:
    """Return its environment."""
    local = ("MODEL_COST_MAP", "ANTHROPIC_BETA_HEADERS", "BLOG_POSTS", "POLICY_TEMPLATES", "AUTOROUTER_PRESETS")
    return {
        "LITELLM_LOG": "ERROR",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        **{f"LITELLM_LOCAL_{name}": "True" for name in local},
    }
