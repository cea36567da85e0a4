"""Clients that nobody here wrote: the `llm` command, OpenAI's agents, and under Node the SDK and the AI SDK."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.serving import Server

NODE = Path(__file__).parent / "node"
NO_NODE = "needs Node, and once: npm install --prefix tests/dialects/openai/node"


def test_llm_command(server: Server, tmp_path: Path) -> None:
    """`llm` asks, and goes on."""
    pytest.importorskip("llm")
    models = f"- model_id: mine\n  model_name: echo\n  api_base: {server.url}/v1\n"
    (tmp_path / "extra-openai-models.yaml").write_text(models)
    environment = {**os.environ, "LLM_USER_PATH": str(tmp_path)}
    for words, options in (("hello", ["-m", "mine"]), ("again", ["-c"])):
        command = [sys.executable, "-m", "llm", *options, "--key", "any", words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.strip() == f"echo: {words}"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the package's own dependencies
def test_agents(server: Server) -> None:
    """An agent keeps its history here: in a conversation, behind its last response, and as a session."""
    agents: Any = pytest.importorskip("agents")
    agents.set_tracing_disabled(True)

    async def run() -> tuple[list[str], list[str]]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
            agent = agents.Agent(name="A", instructions="Be brief", model=agents.OpenAIResponsesModel("echo", client))
            conversation = await client.conversations.create()
            said = []
            for words in ("one", "two"):
                said.append((await agents.Runner.run(agent, words, conversation_id=conversation.id)).final_output)
            streamed = agents.Runner.run_streamed(agent, "three", conversation_id=conversation.id)
            async for _ in streamed.stream_events():
                pass
            said.append(streamed.final_output)
            first = await agents.Runner.run(agent, "four")
            said.append(
                (await agents.Runner.run(agent, "five", previous_response_id=first.last_response_id)).final_output
            )
            session = agents.OpenAIConversationsSession(openai_client=client)
            for words in ("six", "seven"):
                said.append((await agents.Runner.run(agent, words, session=session)).final_output)
            items = [item async for item in client.conversations.items.list(conversation.id, order="asc")]
            return said, [item.content[0].text for item in items]  # type: ignore[union-attr]

    said, items = asyncio.run(run())
    assert said == [f"echo: {words}" for words in ("one", "two", "three", "five", "six", "seven")]
    assert items == ["one", "echo: one", "two", "echo: two", "three", "echo: three"]


@pytest.mark.skipif(not (shutil.which("node") and (NODE / "node_modules").is_dir()), reason=NO_NODE)
def test_under_node(server: Server) -> None:
    """OpenAI's SDK and the AI SDK, whose default is Responses, from npm."""
    command = ["node", str(NODE / "clients.mjs"), server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "pieces": 2,
        "streamed": "echo: two",
        "items": ["three", "echo: three"],
        "refused": ["BadRequestError", "prompt"],
        "unknown": ["NotFoundError"],
        "ai": "echo: one",
        "referred": "echo: two",
        "continued": "echo: more",
        "aiStreamed": "echo: three",
        "chat": "echo: four",
    }
