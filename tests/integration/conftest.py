"""Servers that answer a whole file of tests, and the browser that shows its pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.script import ScriptResponder
from batchrun.server.responders.tutor import TutorResponder

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def tutor_url() -> Iterator[str]:
    """The base URL of a server that answers as `batchrun serve` does."""
    with EmbeddedServer(ServerSettings(shutdown_grace_s=0.05), TutorResponder()) as server:
        yield server.url


@pytest.fixture(scope="module")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a server that a client cannot tell from a real service."""
    script = tmp_path_factory.mktemp("service") / "script.toml"
    script.write_text('[default]\nreply = "An answer."\n', encoding="utf-8")
    with EmbeddedServer(ServerSettings(shutdown_grace_s=0.05), ScriptResponder(script)) as server:
        yield server.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for the pages of a file of tests."""
    from tests.support.browser import open_browser  # most files need no browser

    with open_browser() as found:
        yield found
