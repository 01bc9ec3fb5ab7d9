"""The statistics of a batch with workers, added up from those of its shards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from heapq import nsmallest
from typing import Final

from batchrun.engine import EngineStatistics, LimitsStatistics
from batchrun.engine.tally import Tally
from batchrun.journal.row_history import Counts

__all__ = ["statistics_of", "together"]

_NO_LIMITS: Final = LimitsStatistics(0, 0, None, 0.0, 0, None, None)
_SUMS: Final = [
    each.name for each in fields(EngineStatistics) if each.name not in ("cost_usd", "limits", "stopping", "oldest")
]


def together(shards: Sequence[EngineStatistics], limits: Sequence[LimitsStatistics], requests: int) -> EngineStatistics:
    """Return the statistics of shards as those of one batch.

    Args:
        limits: of each worker.
        requests: that no worker in `limits` has sent.
    """
    sums = {name: sum(getattr(each, name) for each in shards) for name in _SUMS}
    costs = [each.cost_usd for each in shards if each.cost_usd is not None]
    oldest = nsmallest(3, (row for each in shards for row in each.oldest), key=lambda row: row[1])
    return replace(
        Tally().snapshot(_NO_LIMITS),
        **sums,
        cost_usd=sum(costs) if costs else None,
        oldest=tuple(oldest),
        limits=_limits(limits, requests),
    )


def _limits(limits: Sequence[LimitsStatistics], requests: int) -> LimitsStatistics:
    """Return the limits of all workers. The batch waits for the service only if all of them do.

    It waits for a limit if all workers do that have rows; for slots only if no worker has a free one.
    """
    if not limits:
        return replace(_NO_LIMITS, requests=requests)
    with_rows = [each for each in limits if each.in_use or each.waiting_for is not None]
    waiting = {each.waiting_for for each in with_rows}
    if len(with_rows) < len(limits):
        waiting.discard("slots")
    away = [each.away_s for each in limits]
    return LimitsStatistics(
        in_use=sum(each.in_use for each in limits),
        capacity=sum(each.capacity for each in limits),
        waiting_for=waiting.pop() if len(waiting) == 1 else None,
        cool_down_s=min(each.cool_down_s for each in limits),
        requests=requests + sum(each.requests for each in limits),
        max_requests_per_minute=_total([each.max_requests_per_minute for each in limits]),
        max_tokens_per_minute=_total([each.max_tokens_per_minute for each in limits]),
        away_s=None if None in away else max(each for each in away if each is not None),
        one_at_a_time=all(each.one_at_a_time for each in limits),
    )


def _total(limits: Sequence[float | None]) -> float | None:
    known = [each for each in limits if each is not None]
    return sum(known) if known else None


def statistics_of(counts: Iterable[Counts]) -> EngineStatistics:
    """Return what a lost worker has ended, from the counts of the rows that were gathered from it."""
    tally = Tally()
    for each in counts:
        tally.completed += each.completed
        tally.incomplete += each.incomplete
        tally.failed += each.failed
        tally.prompt_tokens += each.prompt_tokens
        tally.completion_tokens += each.completion_tokens
        if each.cost_usd is not None:
            tally.cost_usd = (tally.cost_usd or 0.0) + each.cost_usd
    return tally.snapshot(_NO_LIMITS)
