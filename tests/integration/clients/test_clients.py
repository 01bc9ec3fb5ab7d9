"""Programs of other clients, unchanged but for the address, run against the embedded server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from batchrun.server import Conversation, EmbeddedServer, Finish, Part, ServerSettings, TextDelta, ToolCall
from tests.integration.clients.table import CLIENTS, ENVIRONMENTS, Client
from tests.integration.server.scripted import Scripted

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]


async def helper(conversation: Conversation) -> AsyncIterator[Part]:
    """Call `weather` for a question about it, search for one about notes, report outputs, and echo everything else."""
    last = conversation.messages[-1]
    names = [tool["function"]["name"] for tool in conversation.tools]
    weather = next((name for name in names if name.endswith("weather")), None)
    if last.tool_outputs:
        (output,) = last.tool_outputs[-1:]
        yield TextDelta("My notes say: " if "Dahlias" in output.output else "It is ")
        yield TextDelta(output.output if "Dahlias" in output.output else f"{output.output}.")
    elif "notes" in last.text and "file_search" in names:
        yield ToolCall("call_notes", "file_search", json.dumps({"query": "dahlias bloom"}))
        yield Finish("tool_calls")
        return
    elif "weather" in last.text and weather is not None and conversation.tool_choice != "none":
        yield ToolCall(f"call_{len(conversation.messages)}", weather, json.dumps({"city": "Bern"}))
        yield Finish("tool_calls")
        return
    else:
        yield TextDelta("You said: ")
        yield TextDelta(last.text)
    yield Finish("stop")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with EmbeddedServer(ServerSettings(shutdown_grace_s=0.1, poll_after_ms=20), Scripted(helper)) as server:
        yield server.url


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client_runs_unchanged(client: Client, url: str, tmp_path: Path) -> None:
    """What the users of a client do works, with only the address of the server changed."""
    if not client.is_installed:
        pytest.skip(f"first run: python tests/integration/clients/table.py {client.name}")
    if client.is_node:  # node looks for packages beside the program
        shutil.copy(Path(__file__).parent / "programs" / client.program, ENVIRONMENTS / client.name)
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ},
        "OPENAI_BASE_URL": url,
        "OPENAI_API_BASE": url,
        "OPENAI_API_KEY": "key",
        "NO_PROXY": "*",
    }
    ended = subprocess.run(
        client.command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        encoding="utf-8", timeout=280, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-4000:]
