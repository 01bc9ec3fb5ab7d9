"""Fixtures of the tests of uploads, downloads and messages with files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.filing import Filing, Started, filing, started


@pytest.fixture(scope="module")
def server() -> Iterator[Started]:
    """An embedded server for all tests of a file."""
    with started() as running:
        yield running


@pytest.fixture
async def service(server: Started, tmp_path: Path) -> AsyncIterator[Filing]:
    """One test's part of the server, with a wire to it and a journal."""
    async with filing(server, tmp_path) as own:
        yield own
