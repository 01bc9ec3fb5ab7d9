"""Whether a run will send anything to the Batch API, and in how many waves: said before it begins."""

from __future__ import annotations

from batchrun.batch.plan import Plan
from batchrun.job.batch_api_rules import most_waves, waves_notice
from batchrun.journal import Journal
from batchrun.journal.open import read_earlier

__all__ = ["waves_ahead"]


def waves_ahead(plan: Plan) -> tuple[str, ...]:
    """Return a line about the waves of requests; nothing if the journal shows that no row has a request to send."""
    if not plan.job.batch_api or not plan.rows_to_ask or not _may_send(plan):
        return ()
    return tuple(waves_notice(plan.job))


def _may_send(plan: Plan) -> bool:
    job = plan.job
    if job.fresh or job.accept_changes or job.max_age is not None:
        return True
    counts = read_earlier(plan.paths.journal, Journal.counts)
    if counts is None:
        return True
    at_service = counts.in_flight
    ended = counts.completed + counts.incomplete + (0 if job.retry_failed else counts.failed)
    return ended + at_service < plan.rows_to_ask or (at_service > 0 and most_waves(job) > 1)
