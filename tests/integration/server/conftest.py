"""A real server on a real socket, with a responder that a test controls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from batchrun.server import EmbeddedServer, ManualClock, ServerSettings
from tests.integration.server.scripted import Script, Scripted, echo


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
    """Return a function that starts a server, with `ServerSettings` as keywords. It is stopped after the test."""
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
    """Return one server for all tests that leave no state that could affect another test."""
    responder, clock = Scripted(echo), ManualClock()
    with (
        EmbeddedServer(ServerSettings(shutdown_grace_s=0.05), responder, clock=clock) as server,
        OpenAI(base_url=server.url, api_key="any", max_retries=0) as client,
    ):
        yield Running(server, client, responder, clock)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ignore the SDK's warning, on every call, that the Assistants API is deprecated, but no other warning."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning"))
