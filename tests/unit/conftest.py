"""Fixtures of unit tests in several folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrun.journal import Journal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal."""
    with Journal(tmp_path / "out.csv.journal") as journal:
        yield journal
