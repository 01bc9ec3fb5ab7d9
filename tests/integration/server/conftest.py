"""A real server on a real socket, with a responder whose every move a test decides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
from openai import OpenAI

from batchrun.server import EmbeddedServer, ManualClock, ServerSettings
from batchrun.server.responders.base import Conversation, Finish, Part, TextDelta, ToolCall

Script: TypeAlias = Callable[[Conversation], AsyncIterator[Part]]


@dataclass(slots=True)
class Scripted:
    """A responder that does what the test's function says, and remembers what it was asked."""

    script: Script
    name: str = "scripted"
    models: tuple[str, ...] = ("scripted-1",)
    asked: list[Conversation] = field(default_factory=list)

    def respond(self, conversation: Conversation) -> AsyncIterator[Part]:
        self.asked.append(conversation)
        return self.script(conversation)

    async def aclose(self) -> None:
        pass


async def echo(conversation: Conversation) -> AsyncIterator[Part]:
    """Answers with the last message's words."""
    for word in ("You ", "said: ", conversation.messages[-1].text if conversation.messages else ""):
        yield TextDelta(word)
    yield Finish("stop")


async def forever(conversation: Conversation) -> AsyncIterator[Part]:
    """Begins to answer and never ends."""
    yield TextDelta("Let me think")
    await anyio.sleep_forever()
    yield Finish("stop")


async def call_functions(conversation: Conversation) -> AsyncIterator[Part]:
    """Calls every function offered, then answers with their outputs."""
    outputs = [output.output for message in conversation.messages for output in message.tool_outputs]
    if outputs:
        yield TextDelta(" and ".join(outputs))
        yield Finish("stop")
        return
    for number, tool in enumerate(conversation.tools):
        yield ToolCall(f"call_{number}", tool["function"]["name"], '{"city": "Bern"}')
    yield Finish("tool_calls")


@dataclass(slots=True)
class Running:
    """A started server and its parts."""

    server: EmbeddedServer
    client: OpenAI
    responder: Scripted
    clock: ManualClock

    @property
    def url(self) -> str:
        return self.server.url

    def assistant(self, **options: Any) -> str:
        return self.client.beta.assistants.create(**{"model": "scripted-1", **options}).id


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Starts servers, with `ServerSettings` as keywords, and stops them after the test."""
    with ExitStack() as stack:

        def start_server(script: Script = echo, key: str = "any", **settings: Any) -> Running:
            responder, clock = Scripted(script), ManualClock()
            settings = {"shutdown_grace_s": 0.05, **settings}
            server = stack.enter_context(EmbeddedServer(ServerSettings(**settings), responder, clock=clock))
            client = stack.enter_context(OpenAI(base_url=server.url, api_key=key, max_retries=0, timeout=30))
            return Running(server, client, responder, clock)

        yield start_server


@pytest.fixture(scope="session")
def shared() -> Iterator[Running]:
    """One server for all tests that leave nothing behind which another could mind."""
    responder, clock = Scripted(echo), ManualClock()
    with (
        EmbeddedServer(ServerSettings(shutdown_grace_s=0.05), responder, clock=clock) as server,
        OpenAI(base_url=server.url, api_key="any", max_retries=0) as client,
    ):
        yield Running(server, client, responder, clock)


WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
TIME = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the SDK say that the Assistants API is deprecated, on every call; and nothing else."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning"))
