"""How the time of an estimate is written."""

from __future__ import annotations

import pytest

from batchrun.estimate.time_needed import TimeNeeded, time_text


@pytest.mark.parametrize(("latency_s", "shown"), [(0.005, "0.005 s"), (0.25, "0.2 s"), (11.0, "11 s")])
def test_the_seconds_of_a_row_are_never_shown_as_0(latency_s: float, shown: str) -> None:
    """The embedded server takes some milliseconds for a row."""
    assert time_text(TimeNeeded(50.0, "this machine", latency_s), "assumed").endswith(f"({shown} per row, assumed)")
