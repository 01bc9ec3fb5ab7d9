"""Deleting at the service what a batch made there: threads, conversations, responses, files, the batch's own objects.

What is deleted is in the journal at once, so that the same command goes on where it was stopped. Answers stay: they are
in the journal and in the output.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import anyio.abc

from batchrun.batch.cleanup_summary import CleanupSummary
from batchrun.batch.endpoint import endpoint_of, open_embedded
from batchrun.batch.lock import hold
from batchrun.batch.paths import Paths, paths_for
from batchrun.batch.run import keep_checkpoints
from batchrun.clock import WallClock, utc_now
from batchrun.engine import Limits, RetryPolicy, Stop
from batchrun.engine.limits import Lease
from batchrun.engine.retry import GiveUp
from batchrun.errors import BatchRefused, InputError, OutputError, ServiceFault, unwrapped
from batchrun.job.environment import Environment
from batchrun.job.options import Job
from batchrun.journal import Created, Journal, place_of
from batchrun.services.deletion import delete_object
from batchrun.services.wire import Wire

__all__ = ["Cleanup", "CleanupWatch", "Delete", "clean_up", "opening"]

FAILURES_CHECKED_AFTER = 20


CleanupWatch: TypeAlias = Callable[[CleanupSummary], Coroutine[Any, Any, None]]
"""A task that shows the summary as it grows; cancelled at the end."""

Delete: TypeAlias = Callable[[Created], Awaitable[bool]]
"""Deletes an object; False if the service does not know it (any more). Raises ServiceFault."""


async def clean_up(
    target: Path,
    job: Job,
    environment: Environment,
    *,
    in_flight: bool = False,
    show: Callable[[Created], None] | None = None,
    watch: CleanupWatch | None = None,
    clock: WallClock = utc_now,
) -> CleanupSummary:
    """Delete at the service what the batch behind an output made.

    Args:
        target: an output, its journal, or a journal that `--fresh` set aside.
        job: how to sign in (headers, Azure and the like), and the limits; its table and prompt do not matter.
        in_flight: also what rows in flight need to go on.
        show: given, nothing is deleted: it is called with each object that would be.

    Raises:
        OutputHeld: a batch works on this output.
        OutputError: there is no journal, or it cannot be written.
        InputError: the job names another service than the one where the objects are.
    """
    started_s = time.monotonic()
    paths, journal_path = _paths(target)
    if not journal_path.is_file() or journal_path.stat().st_size == 0:  # opening an empty one would fill it
        raise OutputError(f"{journal_path}: no journal here")
    async with AsyncExitStack() as stack:
        await hold(paths.lock, stack, wait=job.wait)
        journal = stack.enter_context(Journal(journal_path))
        manifest = journal.read_manifest()
        if not manifest:
            raise OutputError(f"{journal_path}: no batch was begun here")
        place = place_of(manifest)
        paths = paths.with_store(manifest.get("store"))
        if job.base_url is not None and job.base_url.rstrip("/") != place.rstrip("/"):
            raise InputError(f"--base-url: what this batch made is at {place}, not at {job.base_url}")
        journal.created.gather(manifest)
        summary = opening(journal, place, in_flight=in_flight)
        cleanup = Cleanup(journal, summary, job, in_flight=in_flight, clock=clock)
        if show is not None:
            for made in cleanup.objects():
                show(made)
        elif place == "embedded" and not paths.store.exists():
            cleanup.all_gone()
        elif summary.to_delete:
            if place == "embedded":
                endpoint = stack.enter_context(open_embedded(paths.store))
            else:
                # The place and not None: the SDK would take whatever the environment names today.
                endpoint = endpoint_of(job, place, environment)
            wire = Wire(endpoint, cleanup.limits, silence_timeout_s=job.silence_timeout)
            stack.push_async_callback(wire.aclose)
            await cleanup.run(partial(delete_object, wire), watch)
            await anyio.to_thread.run_sync(journal.checkpoint)
        summary.elapsed_s = time.monotonic() - started_s
        return summary


def _paths(target: Path) -> tuple[Paths, Path]:
    """(files of the batch, the journal meant)."""
    name, mark, _ = target.name.partition(".journal")
    paths = paths_for(target.with_name(name))
    return paths, target if mark else paths.journal


def opening(journal: Journal, place: str, *, in_flight: bool = False) -> CleanupSummary:
    """What there is to delete at `place`."""
    created = journal.created
    of_rows = created.count(place, of_rows=True, followed=in_flight)
    kept = created.count(place, of_rows=True, followed=True) - of_rows
    # A run that goes on may still need the assistant.
    of_batch = 0 if kept else created.count(place, of_rows=False, followed=True)
    return CleanupSummary(place, of_rows + of_batch, kept=kept, elsewhere=created.elsewhere(place))


class Cleanup:
    """One run over what there is to delete, and the limits that it obeys.

    All state: the summary, and `_scope` of the loop that begins deletions.
    """

    def __init__(
        self,
        journal: Journal,
        summary: CleanupSummary,
        job: Job,
        *,
        in_flight: bool = False,
        clock: WallClock = utc_now,
    ) -> None:
        self.limits = Limits(concurrency=job.concurrency, max_requests_per_minute=job.rpm)
        self._policy = RetryPolicy(max_attempts=job.max_attempts)
        self._journal = journal
        self._summary = summary
        self._in_flight = in_flight
        self._clock = clock
        self._scope = anyio.CancelScope()

    def objects(self, *, of_rows: bool | None = None) -> Iterator[Created]:
        """What is to be deleted, the batch's own objects behind those of its rows."""
        created, place = self._journal.created, self._summary.place
        if of_rows is not False:
            yield from created.left(place, of_rows=True, followed=self._in_flight)
        if of_rows is not True and not self._summary.kept:
            yield from created.left(place, of_rows=False, followed=True)

    def all_gone(self) -> None:
        """The service itself is gone, and everything with it."""
        for made in self.objects():
            self._gone(made)

    async def run(self, delete: Delete, watch: CleanupWatch | None = None) -> None:
        """Delete everything, as fast as the limits allow.

        Raises:
            OutputError: the journal cannot be written.
        """
        with unwrapped():
            async with anyio.create_task_group() as beside:
                beside.start_soon(keep_checkpoints, self._journal)
                if watch is not None:
                    beside.start_soon(watch, self._summary)
                with self._scope:
                    for of_rows in (True, False):
                        async with anyio.create_task_group() as tasks:
                            for made in self.objects(of_rows=of_rows):
                                tasks.start_soon(self._delete, delete, made, await self.limits.admit(0))
                beside.cancel_scope.cancel()

    async def _delete(self, delete: Delete, made: Created, lease: Lease) -> None:
        with lease:
            tries = 0
            while True:
                tries += 1
                try:
                    known = await delete(made)
                except ServiceFault as fault:
                    decision = self._policy.decide(fault, tries, random.random())
                    why = self.limits.failed(lease, fault)
                    if why is not None or isinstance(decision, GiveUp):
                        self._failed(fault)
                        return
                    if decision.shared:
                        self.limits.cool_down(decision.wait_s)
                    await anyio.sleep(decision.wait_s)
                    await self.limits.next_try(lease)
                    continue
                self.limits.answered(lease)
                if known:
                    self._journal.created.deleted(made.object_id, self._clock())
                    self._summary.deleted[made.kind] += 1
                else:
                    self._gone(made)
                return

    def _gone(self, made: Created) -> None:
        self._journal.created.deleted(made.object_id, self._clock())
        self._summary.gone += 1

    def _failed(self, fault: ServiceFault) -> None:
        """Count it; stop where everything else would fail the same way."""
        summary = self._summary
        summary.failures[fault.error_type] += 1
        if isinstance(fault, BatchRefused):
            stop = Stop(str(fault), fault.exit_code)
        elif summary.done == 0 and summary.failures.total() >= FAILURES_CHECKED_AFTER:
            stop = Stop(f"none of the first {summary.failures.total()} could be deleted: {fault}", exit_code=3)
        else:
            return
        if summary.stop is None:
            summary.stop = stop
            self._scope.cancel()


# -- in words -------------------------------------------------------------------------------------------------
