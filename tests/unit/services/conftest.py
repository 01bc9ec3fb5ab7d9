"""Fixtures of the services' tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.scripted_http import Routes, ScriptedHttp, Served


@pytest.fixture
def serve() -> Iterator[Served]:
    """Start servers that answer by route; all of them stop after the test."""
    with ExitStack() as stack:

        def start(routes: Routes) -> ScriptedHttp:
            return stack.enter_context(ScriptedHttp.answering(routes))

        yield start
