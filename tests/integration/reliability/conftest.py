"""The processes that these tests start and kill are not measured: they would leave no data, or half of it."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _commands_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variable by which coverage measures the processes that tests start."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
