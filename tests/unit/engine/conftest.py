"""Fixtures of the engine's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.row_bench import RowBench


@pytest.fixture
def bench(tmp_path: Path) -> RowBench:
    """A batch of rows over a journal of its own."""
    return RowBench(tmp_path / "out.csv.journal")
