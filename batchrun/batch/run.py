"""The composition root: opens everything that a batch needs, runs the stages, closes everything."""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from ipaddress import ip_address
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
import anyio.to_thread

from batchrun.batch.assembly import engine_of, price_list
from batchrun.batch.endpoint import endpoint_for
from batchrun.batch.file_descriptors import import_early, raise_limit, room
from batchrun.batch.lock import hold
from batchrun.batch.output import write_output
from batchrun.batch.paths import Paths
from batchrun.batch.plan import Plan
from batchrun.batch.progress import BatchView, Watch
from batchrun.batch.run_summary import Summary
from batchrun.batch.signals import obey_signals
from batchrun.batch.work import count_strange, work_of
from batchrun.clock import WallClock, utc_now
from batchrun.engine import Limits, RowWork, Stop
from batchrun.engine.slots import CEILING, START, START_ON_THIS_MACHINE
from batchrun.errors import InputError, OutputError, unwrapped
from batchrun.interrupts import Interrupts
from batchrun.job.environment import Environment
from batchrun.journal import Journal, open_journal
from batchrun.records import Outcome
from batchrun.services.factory import model_parameters
from batchrun.services.wire import Wire
from batchrun.tables import InputWatch

__all__ = ["INPUT_CHANGED", "keep_checkpoints", "run_batch"]

log = logging.getLogger("batchrun")

CHECKPOINT_EVERY_S = 2.0
INPUT_CHANGED = Stop(
    "the input changed while the batch ran; rows that are new or ask something else are pending: run the same command "
    "again, which says what to do",
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
    tell: Callable[[str], None] = log.warning,
) -> Summary:
    """Run a plan to its end, or to a stop, and write the output.

    Args:
        interrupts: given, the first signal stops the admission of rows; also one that comes while the output is being
            written, which is finished then.
        leave: is called by the second signal with the exit code, and must not return. None: what waits for the batch is
            interrupted, and cancels it.
        tell: takes a line about what this machine cannot do, before the first row is asked.

    Raises:
        OutputHeld: another process works on this output.
        JournalMismatch: the journal belongs to another job.
        OutputError: journal or output cannot be written.
        InputError: a budget without a price, or a wrong table of prices.
    """
    started_s = time.monotonic()
    # A wrong table of prices is refused before anything is made; and its library reads its data now, not later.
    price_list(plan).matched(plan.job.model or "any")
    raise_limit()
    import_early(parquet=plan.write_output and plan.paths.output.suffix == ".parquet")
    async with AsyncExitStack() as stack:
        await hold(plan.paths.lock, stack, wait=plan.job.wait)
        stack.callback(plan.paths.incoming.unlink, missing_ok=True)
        input_watch = InputWatch(plan.source)
        journal = stack.enter_context(
            open_journal(
                plan.paths.journal,
                plan.manifest(),
                output=plan.paths.output,
                fresh=plan.job.fresh,
                accept_changes=plan.job.accept_changes,
                count_strange=partial(count_strange, plan),
                clock=clock,
            )
        )
        # For those who look at the batch: it does not decide answers.
        journal.write_manifest({"limits": {"rpm": plan.job.rpm, "tpm": plan.job.tpm}})
        if plan.input_name == "-":
            _keep_input(plan.paths)
        endpoint = endpoint_for(plan, environment, stack)
        left = room(embedded=plan.embedded)
        if left is not None and (notice := left.notice(min(plan.rows, plan.job.concurrency or CEILING))) is not None:
            tell(notice)
        limits = Limits(
            concurrency=plan.job.concurrency,
            max_requests_per_minute=plan.job.rpm,
            max_tokens_per_minute=plan.job.tpm,
            max_completion_tokens=plan.job.max_completion_tokens,
            row_timeout_s=plan.job.row_timeout_s,
            start=_first_slots(plan),
            max_slots=None if left is None else left.connections,
            max_outage_s=plan.job.max_outage,
            on_cool_down=lambda wait_s, reason: journal.cooled_down(clock(), wait_s, reason),
        )
        wire = Wire(
            endpoint,
            limits,
            silence_timeout_s=plan.job.silence_timeout,
            settings={name for variant in plan.variants for name in model_parameters(variant, plan.api)},
        )
        stack.push_async_callback(wire.aclose)
        engine = engine_of(plan, journal, wire, limits, clock, on_outcome)
        if interrupts is not None:
            stack.enter_context(obey_signals(interrupts, engine, plan.job.grace, leave))
        with unwrapped(), _calm_collector():
            async with anyio.create_task_group() as beside:
                if watch is not None:
                    beside.start_soon(watch, BatchView(plan.rows, plan.paths.output, engine.statistics, plan.embedded))
                beside.start_soon(keep_checkpoints, journal)
                await engine.run(_while_steady(work_of(plan, journal, clock), input_watch))
                beside.cancel_scope.cancel()
        if plan.job.dedupe:
            journal.duplicates.share()
        output, totals = write_output(plan, journal, input_watch)
        if interrupts is not None:
            await anyio.lowlevel.checkpoint()  # a signal that came while the output was written takes effect
        return Summary(
            output=output,
            rows=plan.rows,
            totals=totals,
            statistics=engine.statistics(),
            elapsed_s=time.monotonic() - started_s,
            stop=engine.stop or (INPUT_CHANGED if input_watch.changed() else None),
            embedded=plan.embedded,
        )


def _first_slots(plan: Plan) -> int:
    """Rows in flight at first, where their number is adaptive: a model server on this machine may have a single
    slot."""
    if plan.embedded or plan.api != "chat" or plan.base_url is None:
        return START
    host = urlsplit(plan.base_url).hostname or ""
    try:
        local = ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost" or host.endswith(".localhost")
    return START_ON_THIS_MACHINE if local else START


def _keep_input(paths: Paths) -> None:
    """The batch is accepted: what came through standard input takes the place of an earlier copy. The source goes on
    reading it under the name that it was opened by."""
    beside = paths.incoming.with_name(paths.incoming.name + ".link")
    try:
        beside.unlink(missing_ok=True)
        os.link(paths.incoming, beside)
        beside.replace(paths.spool)
    except OSError as exc:
        raise OutputError(f"{paths.spool}: cannot be written ({(exc.strerror or str(exc)).lower()})") from None


@contextmanager
def _calm_collector() -> Iterator[None]:
    """The garbage collector looks less often, and not at what is there already: most of a row is freed without it, and
    looking through the imported libraries again and again takes as long as the journal."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _while_steady(work: Iterator[RowWork], input_watch: InputWatch) -> Iterator[RowWork]:
    """The work until the input changes: what nobody has checked is not asked."""
    try:
        for item in work:
            if input_watch.changed():
                return
            yield item
    except InputError:
        if not input_watch.changed():
            raise


async def keep_checkpoints(journal: Journal) -> None:
    """Bound what a power cut may take."""
    while True:
        await anyio.sleep(CHECKPOINT_EVERY_S)
        await anyio.to_thread.run_sync(journal.checkpoint)
