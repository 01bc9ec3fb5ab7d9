"""Running a batch: opens everything that it needs, runs the stages, writes the output, closes everything."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import anyio
import anyio.lowlevel
import anyio.to_thread

from batchrun.batch.assembly import engine_of, limits_of, price_list, wire_of
from batchrun.batch.batch_api import (
    BatchApi,
    open_batch_api,
    open_service_batches,
    reading_results,
    refuse_open_batches,
    refuse_to_leave_batches,
)
from batchrun.batch.cache_plan import kept_on_request
from batchrun.batch.cached_answers import CachedAnswers, open_answers
from batchrun.batch.checkpoints import keep_checkpoints
from batchrun.batch.endpoint import endpoint_for
from batchrun.batch.file_descriptors import connection_limit, import_early, raise_limit
from batchrun.batch.garbage import lazy_garbage_collector
from batchrun.batch.leader import Leader
from batchrun.batch.left_out import LeftOut, selection_record
from batchrun.batch.left_shards import gather_left, wait_for_workers
from batchrun.batch.lock import hold
from batchrun.batch.output import write_output
from batchrun.batch.output_place import check_journal_of, put_output, record_target
from batchrun.batch.plan import Plan
from batchrun.batch.progress import BatchView, Watch
from batchrun.batch.ray_cluster import ray_workers, take_up_stored
from batchrun.batch.row_numbers import RowNumbers
from batchrun.batch.run_summary import Summary
from batchrun.batch.service_batch_text import service_batch_facts
from batchrun.batch.service_notices import ServiceNotices, shutdown_lookup
from batchrun.batch.signals import obey_signals
from batchrun.batch.standard_input import keep_standard_input
from batchrun.batch.unchanged_input import ahead_while_unchanged, while_unchanged
from batchrun.batch.work import count_changed_rows, oldest_valid_answer, paid_twice_notice, rows_left, work_of
from batchrun.batch.written_output import WrittenOutput
from batchrun.clock import WallClock, utc_now
from batchrun.engine import Engine, EngineStatistics, RowTask, RowWork, Stop
from batchrun.engine.slots import CEILING
from batchrun.errors import unwrapped
from batchrun.interrupts import Interrupts
from batchrun.job.environment import Environment
from batchrun.job.fingerprint import digest
from batchrun.journal import Journal, open_journal
from batchrun.journal.open import read_earlier
from batchrun.journal.service_batches import ServiceBatch
from batchrun.records import Outcome
from batchrun.services.kept import ON_REQUEST
from batchrun.services.shutdown_dates import ShutdownLookup
from batchrun.tables import InputWatch
from batchrun.wording import rows_text, visible_line

__all__ = ["INPUT_CHANGED", "run_batch"]

log = logging.getLogger("batchrun")

INPUT_CHANGED = Stop(
    "the input changed while the batch ran; new and changed rows are pending: run the same command again, which "
    "reports what to do",
    exit_code=3,
)


async def run_batch(
    plan: Plan,
    environment: Environment,
    *,
    watch: Watch | None = None,
    interrupts: Interrupts | None = None,
    leave: Callable[[int], None] | None = None,
    clock: WallClock = utc_now,
    on_outcome: Callable[[Outcome], None] | None = None,
    notify: Callable[[str], None] = log.warning,
) -> Summary:
    """Run a plan to its end, or to a stop, and write the output.

    Args:
        watch: shows the progress; runs beside the batch.
        interrupts: signals of the process; the first one stops the admission of rows. None: signals are ignored.
        leave: called by the second signal with the exit code; must not return. None: that signal cancels the batch.
        on_outcome: called for each row that ends in this run, after its outcome is in the journal.
        notify: shows a line about the limits of this machine, before the first row is sent.

    Raises:
        OutputHeld: another process is writing this output.
        JournalMismatch: the journal belongs to another job.
        OutputError: the journal or the output cannot be written.
        InputError: a budget without a price, or an invalid price table.
    """
    started_s = time.monotonic()
    log.info("%s, answered by %s", rows_text(plan.rows_to_ask), visible_line(plan.answered_by()))
    _prepare_process(plan)
    async with AsyncExitStack() as stack:
        await hold(plan.paths.lock, stack, wait=plan.job.wait)
        stack.callback(plan.paths.incoming.unlink, missing_ok=True)
        input_watch = InputWatch(plan.source, plan.input_stamp)
        journal = _open_journal(plan, stack, clock, notify)
        cache = _open_cache(plan, journal, stack, clock, notify)
        if cache is not None:
            on_outcome = _both(cache.ended, on_outcome)
        notices = ServiceNotices()
        connected = _connected(plan, environment, journal, stack, clock, on_outcome, notify, notices)
        earlier = WrittenOutput.taken(journal)
        if interrupts is not None:
            stack.enter_context(obey_signals(interrupts, connected.engine, plan.job.grace, leave))
        await _run_rows(plan, journal, connected, input_watch, watch, clock, cache)
        output, totals = write_output(plan, journal, input_watch, earlier)
        if plan.target is not None and output is not None:
            await put_output(plan.target, output, journal, clock)
        if interrupts is not None:
            await anyio.lowlevel.checkpoint()  # a signal that came while the output was written takes effect
        return Summary(
            output=output,
            put_to=plan.target.shown if plan.target is not None and output is not None else None,
            rows=plan.rows - totals.by_status["skipped"],
            totals=totals,
            statistics=connected.statistics(),
            elapsed_s=time.monotonic() - started_s,
            stop=connected.engine.stop or (INPUT_CHANGED if input_watch.changed() else None),
            embedded=plan.destination.is_embedded,
            kept=max(0, plan.rows - plan.rows_to_ask - totals.by_status["skipped"]),
            cache=cache.report if cache is not None else None,
            notices=notices.lines(),
            models=LeftOut.recorded(journal.read_manifest()).less_models(journal.models.totals()),
            fallbacks=journal.models.fallbacks() if plan.job.fallback_model is not None else {},
            service_batches=tuple(map(service_batch_facts, open_service_batches(journal))),
            batch_api=connected.batch_api.facts(journal) if connected.batch_api is not None else None,
        )


def _prepare_process(plan: Plan) -> None:
    """Do everything that must not happen in the middle of a batch, and refuse an invalid price table.

    The table is refused before any file is created. The price library loads its data here: later that would stall every
    row, and might find no file descriptor left.
    """
    price_list(plan).matched(next(iter(plan.models), None) or "any")
    raise_limit()
    form = plan.write_options.output_format(plan.paths.output) if plan.write_output else None
    import_early(form, structured=plan.structure is not None)


def _open_journal(plan: Plan, stack: AsyncExitStack, clock: WallClock, notify: Callable[[str], None]) -> Journal:
    """Return the journal of the batch: new, resumed or, with --fresh, started over. `stack` closes it.

    A journal that opens has accepted the batch, so the copy of standard input replaces that of an earlier run.
    """
    refuse_to_leave_batches(plan)
    if not plan.job.fresh:
        take_up_stored(plan, notify)
    if plan.target is not None and not plan.job.fresh:
        # Again, since another batch may have held the lock until now.
        check_journal_of(plan.target, plan.paths, on_ray=plan.job.ray is not None)
    if plan.job.fresh:
        wait_for_workers(plan.paths.shards)  # the shards are set aside with the journal
    else:
        gather_left(plan.paths.journal)
    may_change = plan.job.accept_changes or _has_edited_input(plan)
    journal = stack.enter_context(
        open_journal(
            plan.paths.journal,
            plan.manifest(),
            output=plan.paths.output,
            fresh=plan.job.fresh,
            accept_changes=plan.job.accept_changes,
            count_strange=partial(count_changed_rows, plan),
            clock=clock,
        )
    )
    journal.spending.begin_run()
    if plan.job.budget is not None and (notice := journal.spending.unaccounted_notice()):
        notify(notice)
    # These decide no answer, so they are not in the manifest that is compared.
    selected = selection_record(plan.selection, plan.prompter, journal)
    _note_new_columns(plan, journal, notify)
    if may_change and (twice := paid_twice_notice(plan, journal)):
        notify(twice)
    limits = {"rpm": plan.job.rpm, "tpm": plan.job.tpm}
    journal.write_manifest({"limits": limits, "keep": plan.job.keep, **selected})
    if plan.target is not None:
        record_target(plan.target, journal)
    if plan.input_name == "-":
        keep_standard_input(plan.paths)
    return journal


def _has_edited_input(plan: Plan) -> bool:
    """Return whether rows, which --key recognises, may have changed since the last run of a batch at the Batch API."""
    if not plan.job.batch_api or plan.job.key is None:
        return False
    before = read_earlier(plan.paths.journal, lambda journal: journal.read_manifest().get("input_fingerprint"))
    return before is not None and before != plan.source.fingerprint()


def _open_cache(
    plan: Plan, journal: Journal, stack: AsyncExitStack, clock: WallClock, notify: Callable[[str], None]
) -> CachedAnswers | None:
    """Return the cache of the batch, which `stack` closes; None if the batch uses none."""
    is_same_service = _is_same_service(plan, journal)
    if plan.cache is None:
        return None
    file, problem = open_answers(plan.cache.file)
    if file is not None:
        stack.callback(file.close)
    output = f" {plan.paths.output.name}" if plan.write_output else ""
    numbers = RowNumbers(plan, plan.cache.keys)
    stack.callback(numbers.close)
    cache = CachedAnswers(
        plan.cache,
        file,
        journal,
        numbers.next,
        batch=f"{journal.read_manifest()['batch_id']}{output}",
        stale_before=oldest_valid_answer(plan.job, clock),
        is_same_service=is_same_service,
        problem=problem,
    )
    if cache.report.problem is not None:
        notify(f"--cache: {visible_line(str(plan.cache.file))}: {cache.report.problem}")
    return cache


def _is_same_service(plan: Plan, journal: Journal) -> bool:
    """Return whether all that the journal has was sent to the plan's service and kept as now, and record these."""
    service = digest(plan.service, kept_on_request(plan.job))
    services = journal.read_manifest().get("services")
    if services is None:
        services = [] if journal.is_empty() else ["unknown"]  # a journal of an earlier version
    if service not in services:
        services.append(service)
        journal.write_manifest({"services": services})
    return bool(services == [service])


def _both(first: Callable[[Outcome], None], second: Callable[[Outcome], None] | None) -> Callable[[Outcome], None]:
    """Return a function that passes an outcome to both."""
    if second is None:
        return first

    def call(outcome: Outcome) -> None:
        first(outcome)
        second(outcome)

    return call


def _note_new_columns(plan: Plan, journal: Journal, notify: Callable[[str], None]) -> None:
    """Report columns of `keep` that earlier answers of the batch cannot fill, because nothing was kept for them."""
    kept = journal.read_manifest().get("keep") or ()
    new = [name for name in dict.fromkeys(plan.job.keep or ()) if name in ON_REQUEST and name not in kept]
    if new and journal.has_answers():
        notify(
            f"--keep: the answers so far were recorded without {', '.join(new)}, and their cells stay empty; "
            "--fresh asks all rows again"
        )


@dataclass(frozen=True, slots=True)
class _Connected:
    """What runs the rows of a batch, connected to its service.

    Attributes:
        engine: runs the rows, or leads the workers that run them.
        lookup: the look-up beside it; None if there is none.
        batch_api: None if the requests are ordinary ones.
    """

    engine: Engine | Leader
    lookup: ShutdownLookup | None
    batch_api: BatchApi | None = None

    def statistics(self) -> EngineStatistics:
        """Return a snapshot."""
        return self.engine.statistics() if self.batch_api is None else self.batch_api.statistics()

    def open_batches(self) -> Sequence[ServiceBatch]:
        """Return the service batches whose results are still to come."""
        return () if self.batch_api is None else self.batch_api.open_batches


def _connected(
    plan: Plan,
    environment: Environment,
    journal: Journal,
    stack: AsyncExitStack,
    clock: WallClock,
    on_outcome: Callable[[Outcome], None] | None,
    notify: Callable[[str], None],
    notices: ServiceNotices,
) -> _Connected:
    """Return the engine with an open connection to the service, which `stack` closes; and the look-up beside it."""
    refuse_open_batches(plan, journal)
    endpoint = endpoint_for(plan, environment, stack)
    # Counted after the embedded server has opened its files, and before the first connection.
    available = connection_limit(embedded=plan.destination.is_embedded)
    if available is not None:
        notice = available.notice(min(plan.rows_to_ask, plan.job.concurrency or CEILING))
        if notice is not None:
            notify(notice)
    limits = limits_of(
        plan,
        lambda wait_s, reason: journal.cooled_down(clock(), wait_s, reason),
        None if available is None else available.connections,
    )
    wire = wire_of(plan, endpoint, limits)
    stack.push_async_callback(wire.aclose)
    lookup = shutdown_lookup(plan, wire, notices, clock)
    if plan.job.batch_api:
        opened = open_batch_api(plan, journal, endpoint, wire, limits, stack, clock, on_outcome, notices)
        return _Connected(opened.engine, lookup, opened)
    wrap = reading_results(wire, journal)
    if plan.job.workers > 1 or plan.job.ray is not None:
        engine = engine_of(plan, journal, wire, limits, clock, None, notices, wrap=wrap)
        remote = ray_workers(plan, journal, stack, notify) if plan.job.ray is not None else None
        return _Connected(Leader(plan, journal, engine, endpoint, notices, notify, on_outcome, remote), lookup)
    return _Connected(engine_of(plan, journal, wire, limits, clock, on_outcome, notices, wrap=wrap), lookup)


async def _run_rows(
    plan: Plan,
    journal: Journal,
    connected: _Connected,
    input_watch: InputWatch,
    watch: Watch | None,
    clock: WallClock,
    cache: CachedAnswers | None,
) -> None:
    """Run all rows; the progress display, the checkpoints and a look-up run beside them and end with them."""
    engine, lookup = connected.engine, connected.lookup
    with unwrapped(), lazy_garbage_collector():
        async with anyio.create_task_group() as beside:
            if watch is not None:
                view = BatchView(
                    plan.rows_to_ask,
                    plan.paths.output,
                    connected.statistics,
                    plan.destination.is_embedded,
                    connected.open_batches,
                    connected.batch_api.news if connected.batch_api is not None else None,
                )
                beside.start_soon(watch, view)
            beside.start_soon(keep_checkpoints, journal)
            if cache is not None:
                beside.start_soon(keep_checkpoints, cache)

            def all_work(again: bool = False) -> Iterator[RowWork]:
                work = work_of(plan, journal, clock, None if again else cache)
                return work if lookup is None else _with_first_task(work, lambda: beside.start_soon(lookup.run))

            if not plan.rows:
                pass  # there is nothing to prepare at the service
            elif connected.batch_api is not None:
                unchanged = partial(while_unchanged, input_watch=input_watch)
                unchanged_pass = partial(ahead_while_unchanged, input_watch=input_watch)
                await connected.batch_api.waves.run(all_work, unchanged, unchanged_pass)
            elif isinstance(engine, Leader):
                rows = rows_left(plan, journal, all_work, looks_up=cache is not None)
                await engine.run(ahead_while_unchanged(rows, input_watch))
            else:
                await engine.run(while_unchanged(all_work(), input_watch))
            if lookup is not None and engine.stop is None:
                await lookup.wait()
            beside.cancel_scope.cancel()
    if plan.job.dedupe:
        journal.duplicates.share()


def _with_first_task(work: Iterator[RowWork], begin: Callable[[], object]) -> Iterator[RowWork]:
    """Yield the work; call `begin` before the first row that has something to send."""
    for item in work:
        if isinstance(item, RowTask):
            begin()
            yield item
            break
        yield item
    yield from work
