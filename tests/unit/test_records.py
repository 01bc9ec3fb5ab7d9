"""The records that pass between the stages."""

from __future__ import annotations

from typing import Any

import pytest

from batchrun.records import OUTPUT_COLUMNS, Attempt, Completed, Failed, Prompt, Row, Turn
from batchrun.token_usage import Usage


@pytest.mark.parametrize("kind", [Row, Turn, Prompt, Usage, Attempt, Completed, Failed])
def test_records_are_frozen_and_slotted(kind: Any) -> None:
    """No stage can change a record of another stage."""
    assert kind.__dataclass_params__.frozen
    assert "__dict__" not in dir(kind)


def test_the_documented_columns() -> None:
    """The columns and their order are a promise to every script that reads an output."""
    assert list(OUTPUT_COLUMNS) == [
        "response", "status", "error_type", "error", "thread_id", "run_id", "model", "prompt_tokens",
        "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens", "cost_usd", "attempts",
        "duration_s", "completed_at",
    ]  # fmt: skip
