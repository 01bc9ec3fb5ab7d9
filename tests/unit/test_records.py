"""The records that pass between the stages."""

from __future__ import annotations

import pytest

from batchrun import records
from batchrun.records import OUTPUT_COLUMNS


@pytest.mark.parametrize("name", ["Row", "Turn", "Prompt", "Usage", "Attempt", "Completed", "Failed"])
def test_records_are_frozen_and_slotted(name: str) -> None:
    """No stage can change a record of another stage."""
    kind = getattr(records, name)
    assert kind.__dataclass_params__.frozen
    assert "__dict__" not in dir(kind)


def test_the_documented_columns() -> None:
    """The columns and their order are a promise to every script that reads an output."""
    assert list(OUTPUT_COLUMNS) == [
        "response", "status", "error_type", "error", "thread_id", "run_id", "model", "prompt_tokens",
        "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens", "cost_usd", "attempts",
        "duration_s", "completed_at",
    ]  # fmt: skip
