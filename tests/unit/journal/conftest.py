"""Fixtures of the journal's tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The place of the fixture `journal`, and of the journals that a test opens itself."""
    return tmp_path / "out.csv.journal"
