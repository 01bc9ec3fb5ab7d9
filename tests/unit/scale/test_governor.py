"""The governor of a batch: what it says about limits that are too low for the workers."""

from __future__ import annotations

import pytest

from batchrun.scale.governor import Governor


@pytest.mark.parametrize(
    ("rpm", "tpm", "workers", "notices"),
    [
        (60.0, None, 6, []),
        (None, None, 100, []),
        (60.0, 90_000.0, 10, ["--rpm 60 is too low for 10 workers: at most 6 can send at a time"]),
        (
            9.0,
            19.0,
            2,
            [
                "--rpm 9 is too low for 2 workers: at most 1 can send at a time",
                "--tpm 19 is too low for 2 workers: at most 1 can send at a time",
            ],
        ),
    ],
)
def test_a_low_limit_is_named(rpm: float | None, tpm: float | None, workers: int, notices: list[str]) -> None:
    """One line for each limit that is below ten a minute and worker."""
    governor = Governor(requests_per_minute=rpm, tokens_per_minute=tpm, budget_usd=None, spent_usd=0.0)
    end = "; another one begins when one of these has nothing left to do"
    assert list(governor.notices(workers)) == [notice + end for notice in notices]
