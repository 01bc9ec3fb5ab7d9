"""What a batch with workers waits for, as its display shows it."""

from __future__ import annotations

import pytest

from batchrun.batch.shard_statistics import together
from batchrun.engine import LimitsStatistics
from batchrun.engine.limits import Waiting

IDLE = LimitsStatistics(
    in_use=0,
    capacity=20,
    waiting_for=None,
    cool_down_s=0.0,
    requests=1,
    max_requests_per_minute=20.0,
    max_tokens_per_minute=None,
)


def worker(waiting_for: Waiting | None, *, in_use: int = 1) -> LimitsStatistics:
    return LimitsStatistics(in_use, 20, waiting_for, 0.0, 1, 20.0, None)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ([worker("requests", in_use=0), IDLE, IDLE], "requests"),
        ([worker("tokens"), worker("tokens")], "tokens"),
        ([worker("requests"), worker(None)], None),
        ([worker("requests"), worker("tokens")], None),
        ([worker("slots", in_use=20), worker("slots", in_use=20)], "slots"),
        ([worker("slots", in_use=20), IDLE], None),
        ([IDLE, IDLE], None),
    ],
)
def test_the_limit_that_the_batch_waits_for(limits: list[LimitsStatistics], expected: Waiting | None) -> None:
    """A worker without rows does not hide the limit that the others wait for; but it has free slots."""
    assert together((), limits, 0).limits.waiting_for == expected
