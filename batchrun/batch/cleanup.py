"""Deletes what a batch left at the service: threads, conversations, responses, files and assistants.

Each deletion is recorded in the journal at once, so that a cleanup resumes where it stopped. No answer is lost: the
answers are in the journal and in the output.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import anyio.abc

from batchrun.batch.checkpoints import keep_checkpoints
from batchrun.batch.cleanup_summary import CleanupSummary
from batchrun.batch.endpoint import endpoint_of, open_embedded
from batchrun.batch.left_shards import gather_left
from batchrun.batch.lock import hold
from batchrun.batch.paths import Paths, paths_for
from batchrun.clock import WallClock, utc_now
from batchrun.engine import Limits, RetryPolicy, Stop
from batchrun.engine.limits import Lease
from batchrun.engine.pacer import Pacers
from batchrun.engine.retry import GiveUp
from batchrun.errors import BatchRefused, InputError, ServiceFault, unwrapped
from batchrun.job.environment import Environment
from batchrun.job.options import Job
from batchrun.job.sources import check_sources
from batchrun.journal import Created, Journal, manifest_of, place_of
from batchrun.journal.database import no_journal
from batchrun.services.client import Endpoint
from batchrun.services.deletion import delete_object
from batchrun.services.wire import Wire

__all__ = ["Cleanup", "CleanupWatch", "Delete", "clean_up", "objects_to_delete", "service_endpoint"]

FAILURES_CHECKED_AFTER = 20

EMBEDDED = "embedded"
"""The place of objects that the embedded server holds (`batchrun.journal.place_of`)."""

CleanupWatch: TypeAlias = Callable[[CleanupSummary], Coroutine[Any, Any, None]]
"""A task that shows the summary as it grows; cancelled at the end."""

Delete: TypeAlias = Callable[[Created], Awaitable[bool]]
"""Deletes an object; returns False if the service does not know it. Raises ServiceFault."""


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
    """Delete the objects that a batch left at the service.

    Args:
        target: an output, its journal, or a journal that `--fresh` set aside.
        job: credentials and limits; its table and prompt do not matter.
        in_flight: also delete objects that rows in flight still need.
        show: if given, nothing is deleted: `show` is called with each object that would be.
        watch: shows the progress.

    Raises:
        OutputHeld: a batch is writing this output.
        OutputError: there is no journal, or it cannot be written.
        InputError: the job names another service than the one with the objects.
    """
    started_s = time.monotonic()
    paths, journal_path = _paths(target)
    if not journal_path.is_file() or journal_path.stat().st_size == 0:  # to open an empty journal would fill it
        raise no_journal(journal_path)
    async with AsyncExitStack() as stack:
        await hold(paths.lock, stack, wait=job.wait)
        gather_left(journal_path)
        journal = stack.enter_context(Journal(journal_path))
        place, store = _place(journal, paths, job)
        summary = objects_to_delete(journal, place, in_flight=in_flight)
        summary.at_service, summary.output = len(journal.service_batches.open(place)), paths.output
        cleanup = Cleanup(journal, summary, job, in_flight=in_flight, clock=clock)
        if show is not None:
            for made in cleanup.objects():
                show(made)
        elif place == EMBEDDED and not store.exists():
            cleanup.record_all_gone()
        elif summary.to_delete:
            endpoint = stack.enter_context(_endpoint(place, store, job, environment))
            wire = Wire(endpoint, cleanup.limits, silence_timeout_s=job.silence_timeout)
            stack.push_async_callback(wire.aclose)
            await cleanup.run(partial(delete_object, wire), watch)
            await anyio.to_thread.run_sync(journal.checkpoint)
        summary.elapsed_s = time.monotonic() - started_s
        return summary


def _paths(target: Path) -> tuple[Paths, Path]:
    """Return the files of the batch, and the journal that `target` means: it may be one that was set aside."""
    name, mark, _ = target.name.partition(".journal")
    paths = paths_for(target.with_name(name))
    return paths, target if mark else paths.journal


def _place(journal: Journal, paths: Paths, job: Job) -> tuple[str, Path]:
    """Return the base URL of the service with the objects (or `EMBEDDED`), and the store of the embedded server.

    Raises:
        OutputError: the journal holds no batch.
        InputError: the job names another service.
    """
    manifest = manifest_of(journal)
    place = place_of(manifest)
    if job.base_url is not None and job.base_url.rstrip("/") != place.rstrip("/"):
        raise InputError(f"--base-url: the objects of this batch are at {place}, not at {job.base_url}")
    journal.created.gather(manifest)
    return place, paths.with_store(manifest.get("store")).store


def service_endpoint(
    journal: Journal, paths: Paths, job: Job, environment: Environment
) -> AbstractContextManager[Endpoint]:
    """Return the service that answered a batch, while the context lasts.

    Raises:
        OutputError: the journal holds no batch.
        InputError: the job names another service.
    """
    place, store = _place(journal, paths, job)
    return _endpoint(place, store, job, environment)


@contextmanager
def _endpoint(place: str, store: Path, job: Job, environment: Environment) -> Iterator[Endpoint]:
    if place == EMBEDDED:
        with open_embedded(store) as endpoint:
            yield endpoint
    else:
        # The recorded URL, even for the SDK's default: without one the SDK would use what the environment names today.
        check_sources(replace(job, base_url=place), environment)
        yield endpoint_of(job, place, environment)


def objects_to_delete(journal: Journal, place: str, *, in_flight: bool = False) -> CleanupSummary:
    """Return the summary of a cleanup that is about to start: how many objects there are to delete at `place`."""
    created = journal.created
    of_rows = created.count(place, of_rows=True, followed=in_flight)
    kept = created.count(place, of_rows=True, followed=True) - of_rows
    # The run of a row in flight may still need the assistant.
    of_batch = 0 if kept else created.count(place, of_rows=False, followed=True)
    return CleanupSummary(place, of_rows + of_batch, kept=kept, elsewhere=created.elsewhere(place))


class Cleanup:
    """One pass over the objects to delete, within the job's limits.

    Mutable state: the summary, and `_scope`, which is cancelled to start no further deletion.
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
        self.limits = Limits(concurrency=job.concurrency, rates=Pacers(requests_per_minute=job.rpm))
        self._policy = RetryPolicy(max_attempts=job.max_attempts)
        self._journal = journal
        self._summary = summary
        self._in_flight = in_flight
        self._clock = clock
        self._scope = anyio.CancelScope()

    def objects(self, *, of_rows: bool | None = None) -> Iterator[Created]:
        """Yield the objects to delete: those of the rows first, since they may use those of the batch.

        Args:
            of_rows: True for objects of rows only, False for those of the batch only.
        """
        created, place = self._journal.created, self._summary.place
        if of_rows is not False:
            yield from created.left(place, of_rows=True, followed=self._in_flight)
        if of_rows is not True and not self._summary.kept:
            yield from created.left(place, of_rows=False, followed=True)

    def record_all_gone(self) -> None:
        """Record that the service no longer exists, nor any object in it."""
        for made in self.objects():
            self._record_gone(made)

    async def run(self, delete: Delete, watch: CleanupWatch | None = None) -> None:
        """Delete all objects, as fast as the limits allow.

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
            for attempt in itertools.count(1):
                try:
                    known = await delete(made)
                except ServiceFault as fault:
                    decision = self._policy.decide(fault, attempt, random.random())
                    why = self.limits.failed(lease, fault)
                    if why is not None or isinstance(decision, GiveUp):
                        self._count_failure(fault)
                        return
                    if decision.shared:
                        self.limits.cool_down(decision.wait_s)
                    await anyio.sleep(decision.wait_s)
                    await self.limits.next_attempt(lease)
                    continue
                self.limits.answered(lease)
                if known:
                    self._journal.created.deleted(made.object_id, self._clock())
                    self._summary.deleted[made.kind] += 1
                else:
                    self._record_gone(made)
                return

    def _record_gone(self, made: Created) -> None:
        self._journal.created.deleted(made.object_id, self._clock())
        self._summary.gone += 1

    def _count_failure(self, fault: ServiceFault) -> None:
        """Count a failure; stop if every other deletion would fail for the same reason."""
        summary = self._summary
        summary.failures[fault.error_type] += 1
        if isinstance(fault, BatchRefused):
            stop = Stop(str(fault), fault.exit_code)
        elif summary.done == 0 and summary.failures.total() >= FAILURES_CHECKED_AFTER:
            stop = Stop(f"the first {summary.failures.total()} objects could not be deleted: {fault}", exit_code=3)
        else:
            return
        if summary.stop is None:
            summary.stop = stop
            self._scope.cancel()
