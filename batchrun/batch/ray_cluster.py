"""The Ray cluster on which --ray runs the workers of a batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

from batchrun.batch.plan import Plan
from batchrun.batch.remote_shards import RemoteShards
from batchrun.batch.shard_worker import serve
from batchrun.errors import InputError
from batchrun.journal import Journal
from batchrun.local_paths import is_url
from batchrun.scale.journal_puts import JournalPuts
from batchrun.scale.stored_journal import StoredJournal, refuse_without_ray, take_up

__all__ = ["ray_workers", "stored_notice", "take_up_stored"]


def take_up_stored(plan: Plan, notify: Callable[[str], None]) -> None:
    """Bring the journal of a plan up to date with the one in the store of its output: see `stored_journal.take_up`.

    Raises:
        JournalMismatch: the batch was continued elsewhere, or does not use Ray any more.
        InputError, OutputError: the store or the journal cannot be used.
    """
    store = _store_of(plan)
    if store is not None:
        take_up(store, plan.paths.journal, notify)
    elif plan.target is not None and is_url(plan.target.address):
        refuse_without_ray(plan.target)


def stored_notice(plan: Plan) -> str | None:
    """Return a line about a journal with which a run would continue, and which is not on this machine yet.

    Raises:
        OutputError: the store cannot be asked.
    """
    store = _store_of(plan)
    if store is None or store.newest() is None:
        return None
    return f"a run continues with the journal at {store.shown}, and asks fewer rows: a dry run does not read it"


def _store_of(plan: Plan) -> StoredJournal | None:
    """Return the place of the journal in the store of the output; None if it is on this machine only."""
    if plan.job.ray is None or plan.target is None or not is_url(plan.target.address):
        return None
    return StoredJournal.of(plan.target)


def ray_workers(plan: Plan, journal: Journal, stack: AsyncExitStack, notify: Callable[[str], None]) -> RemoteShards:
    """Connect to the cluster of a plan; return what a leader needs of it. `stack` ends the connection.

    Args:
        journal: of the whole batch.
        notify: shows a line about workers that wait for a place in the cluster.

    Raises:
        InputError: Ray is not installed, or there is no such cluster.
    """
    address = plan.job.ray
    assert address is not None
    try:
        from batchrun.scale.ray_links import connected
    except ImportError:
        raise InputError("--ray: needs Ray: pip install 'batchrun-llm[ray]', on every machine of the cluster") from None
    workers = stack.enter_context(connected(address, serve, workers=plan.job.workers, notify=notify))
    store = _store_of(plan)
    puts = None if store is None else JournalPuts(store, journal, plan.paths.shards, notify, fresh=plan.job.fresh)
    return RemoteShards(workers.start, journal, puts, notify)
