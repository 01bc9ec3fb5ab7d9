"""Whether a run will send anything to the Batch API, and in how many waves: said before it begins."""

from __future__ import annotations

from batchrun.batch.plan import Plan
from batchrun.errors import OutputError
from batchrun.job.batch_api_rules import most_waves, waves_notice
from batchrun.journal import Journal

__all__ = ["waves_ahead"]


def waves_ahead(plan: Plan) -> tuple[str, ...]:
    """Return a line about the waves of requests; nothing if the journal shows that no row has a request to send."""
    if not plan.job.batch_api or not plan.rows_to_ask or not _may_send(plan):
        return ()
    return tuple(waves_notice(plan.job))


def _may_send(plan: Plan) -> bool:
    job, path = plan.job, plan.paths.journal
    if job.fresh or job.accept_changes or job.max_age is not None or not path.is_file() or not path.stat().st_size:
        return True
    try:
        with Journal(path, read_only=True) as journal:
            counts = journal.counts()
    except OutputError:
        return True
    at_service = counts.in_flight
    ended = counts.completed + counts.incomplete + (0 if job.retry_failed else counts.failed)
    return ended + at_service < plan.rows_to_ask or (at_service > 0 and most_waves(job) > 1)
