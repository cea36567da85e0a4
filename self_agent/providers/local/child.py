"""The child process holds the model and nothing else, and ends when its stdin does, however the parent ended.

It reads one JSON line (`path`, `name`, `key`, `context_tokens`, `reply_tokens`), writes one (`port` or `error`), and
then serves the OpenAI-compatible API on loopback. It imports nothing of the server, to start fast and stay small.
(No coverage is measured: it runs in a process of its own, which ends with `os._exit`.)
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from typing import Any

SLOTS = 2  # replies at once; one more waits, so a summary need not wait for a long reply
CACHE_MIB = 256  # of prompts seen before; llama.cpp's own default is 8 GiB


def main() -> None:  # pragma: no cover
    """Serve until stdin ends."""
    # Ctrl-C and a service manager's SIGTERM reach every process; when to stop is the parent's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # llama.cpp also prints to stdout; the parent has made stderr the log file
    config = json.loads(sys.stdin.readline())
    try:
        server = serve(config)
        port = int(server.listening_address.rsplit(":", 1)[1])
        report: dict[str, Any] = {"port": port}
    except ImportError:
        report = {"error": "xllamacpp, which runs the embedded model, is not installed or not made for this platform"}
    except RuntimeError:
        report = {"error": "the file is not a model that llama.cpp can load, or memory is short (see model.log)"}
    with contextlib.suppress(OSError), answer:  # OSError: the parent is gone, and so is stdin
        answer.write(json.dumps(report) + "\n")
    sys.stdin.read()
    os._exit(0)  # at once: llama.cpp would first wait for the replies in progress


def serve(config: dict[str, Any]) -> Any:  # pragma: no cover
    """Load the model and return the server that answers for it on a free port of loopback."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = config["path"]
    params.model_alias = {config["name"]}
    params.n_ctx = SLOTS * config["context_tokens"]
    params.n_parallel = SLOTS
    # A generation ends: by itself, here, or where its slot of the context is full, for nothing in that is shifted out.
    params.n_predict = config["reply_tokens"]
    params.ctx_shift = params.kv_unified = False
    # A cancel waits for the batch in work: with one core 64 tokens take 1.6 s, 256 took 6 s and gained 9 %.
    params.n_batch = params.n_ubatch = 64
    params.no_extra_bufts = True  # no second, repacked copy of the weights in memory
    params.cache_ram_mib = CACHE_MIB
    params.cpuparams.n_threads = max(1, (os.cpu_count() or 2) - 1)  # one core stays for the server itself
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [config["key"]]
    params.cors_origins, params.cors_credentials = "", False
    params.ui = params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = False
    return xllamacpp.Server(params)


if __name__ == "__main__":  # pragma: no cover
    main()
