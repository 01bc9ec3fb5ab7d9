"""Figures as text."""

from __future__ import annotations

import pytest

from batchrun.scoring.figures_text import percent


@pytest.mark.parametrize(
    ("share", "text"),
    [(13 / 16, "81.3 %"), (0.0, "0.0 %"), (1.0, "100.0 %"), (1 / 3, "33.3 %"), (0.0015, "0.1 %"), (None, "–")],
)
def test_a_share_is_rounded_as_on_the_page(share: float | None, text: str) -> None:
    """A share has one digit after the point, and a half is rounded up, as JavaScript's toFixed does it."""
    assert percent(share) == text
