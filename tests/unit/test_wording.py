"""Counts as people read them."""

from __future__ import annotations

import pytest

from batchrun.wording import rows_text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1_000, "1,000 rows"), (1_001, "1,001 rows")]
)
def test_one_row_is_a_row(number: int, text: str) -> None:
    """Only a single one stands without its s."""
    assert rows_text(number) == text


def test_rows_of_a_kind() -> None:
    """What they are stands between number and noun."""
    assert (rows_text(1, "failed"), rows_text(2_000, "failed")) == ("1 failed row", "2,000 failed rows")
