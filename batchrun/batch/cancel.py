"""Cancels what a batch has at the service's Batch API, and takes in what is done."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from batchrun.batch.batch_api import collecting_engine, desk_of
from batchrun.batch.cleanup import service_endpoint
from batchrun.batch.lock import hold
from batchrun.batch.output import write_output
from batchrun.batch.paths import Paths, paths_of_output
from batchrun.batch.recorded_plan import recorded_plan
from batchrun.batch.service_batch_text import news_facts
from batchrun.batch.work import due_work
from batchrun.batch.written_output import WrittenOutput
from batchrun.clock import WallClock, utc_now
from batchrun.engine import Limits
from batchrun.errors import InputError, OutputError
from batchrun.job.environment import Environment
from batchrun.job.options import Job
from batchrun.journal import Journal, place_of
from batchrun.journal.database import no_journal
from batchrun.services.batch_api.watching import BatchNews
from batchrun.services.client import Endpoint
from batchrun.services.wire import Wire
from batchrun.tables import InputWatch
from batchrun.wording import rows_text, shown_path

__all__ = ["CancelFacts", "cancel_batch", "cancel_lines"]


class CancelFacts(TypedDict):
    """What `cancel` did, as `cancel --json` prints it.

    `cancelled` counts the batches at the service that were open; `answers` and `errors` the results that they gave.
    The rows are those of the whole batch, None if its input is missing; `uncollected` is why results are in the journal
    only, None if they are in the output.
    """

    event: str
    output: str
    cancelled: int
    answers: int
    errors: int
    completed: int | None
    pending: int | None
    uncollected: str | None


@dataclass(frozen=True, slots=True)
class _Collected:
    """Rows of the batch by their state, and why there are none to count."""

    completed: int | None
    pending: int | None
    problem: str | None


async def cancel_batch(
    output: Path,
    job: Job,
    environment: Environment,
    *,
    show: Callable[[str], None] | None = None,
    clock: WallClock = utc_now,
) -> CancelFacts:
    """Cancel the open service batches of an output, wait until they have ended, and write what they have answered.

    Rows without an answer are pending: the next run of the batch asks them.

    Args:
        job: credentials and other options of the connection; its table and prompt do not matter.
        show: called with each thing that happens to a service batch.

    Raises:
        OutputHeld: a batch is writing this output.
        OutputError: there is no journal, or it or the output cannot be written.
        ServiceFault: the service cannot be asked, or refuses the key.
    """
    paths = paths_of_output(output)
    if not paths.journal.is_file() or paths.journal.stat().st_size == 0:
        raise no_journal(paths.journal)
    async with AsyncExitStack() as stack:
        await hold(paths.lock, stack, wait=job.wait)
        journal = stack.enter_context(Journal(paths.journal))
        manifest = journal.read_manifest()
        if "batch_id" not in manifest:
            raise OutputError(f"{paths.journal}: this journal holds no batch")
        before = {batch.number for batch in journal.service_batches.open(place_of(manifest))}
        endpoint = stack.enter_context(service_endpoint(journal, paths, job, environment))
        await _cancel_all(journal, job, endpoint, clock, show)
        collected = await _collect(journal, paths, job, endpoint, clock)
        ended = [batch for batch in journal.service_batches.all() if batch.number in before]
        return {
            "event": "cancel",
            "output": str(paths.output),
            "cancelled": len(before),
            "answers": sum(batch.answers for batch in ended),
            "errors": sum(batch.errors for batch in ended),
            "completed": collected.completed,
            "pending": collected.pending,
            "uncollected": collected.problem,
        }


async def _cancel_all(
    journal: Journal, job: Job, endpoint: Endpoint, clock: WallClock, show: Callable[[str], None] | None
) -> None:
    """Cancel all open service batches, and wait until the results of each are in the journal."""

    def report(news: BatchNews) -> None:
        if show is not None:
            show(news_facts(news)["text"])

    async with AsyncExitStack() as stack:
        wire = _wire(job, endpoint, stack)
        desk = desk_of(job, journal, wire, clock, report)
        await desk.watch(once=True)  # what has ended meanwhile is only collected
        open_batches = await desk.cancel_all()
        while open_batches:
            await desk.watch()
            open_batches = desk.open()


async def _collect(journal: Journal, paths: Paths, job: Job, endpoint: Endpoint, clock: WallClock) -> _Collected:
    """Write the answers that are in the journal to the output."""
    manifest = journal.read_manifest()
    if "functions" in manifest["settings"]:
        return _Collected(None, None, "rows of this batch may call functions: the next run takes in the answers")
    try:
        plan = recorded_plan(manifest, paths, job)
    except InputError as exc:
        return _Collected(None, None, str(exc))
    async with AsyncExitStack() as stack:
        engine = collecting_engine(plan, journal, endpoint, stack, clock)
        input_watch, earlier = InputWatch(plan.source), WrittenOutput.taken(journal)
        journal.look_back()
        await engine.run(due_work(plan, journal, clock, journal.service_batches.due_rows()))
        journal.service_batches.tidy()
        _, totals = write_output(plan, journal, input_watch, earlier)
    left = totals.by_status["pending"] + totals.by_status["in_flight"]
    return _Collected(totals.by_status["completed"], left, None)


def cancel_lines(facts: CancelFacts) -> list[str]:
    """Return what `cancel` did, for people."""
    if not facts["cancelled"]:
        first = "no batch of this output was open at the service"
    else:
        number = "1 batch" if facts["cancelled"] == 1 else f"{facts['cancelled']:,} batches"
        first = (
            f"cancelled {number} at the service: {facts['answers']:,} answers and {facts['errors']:,} errors came back"
        )
    lines = [first]
    if facts["uncollected"] is not None:
        lines.append(f"not written to the output: {facts['uncollected']}")
    else:
        pending = f", {facts['pending']:,} pending; the next run asks these" if facts["pending"] else ""
        lines.append(f"{rows_text(facts['completed'] or 0)} completed{pending}")
        lines.append(f"written: {shown_path(Path(facts['output']))}")
    return lines


def _wire(job: Job, endpoint: Endpoint, stack: AsyncExitStack) -> Wire:
    """Return a connection for the requests of the desk, which `stack` closes."""
    wire = Wire(endpoint, Limits(), silence_timeout_s=job.silence_timeout)
    stack.push_async_callback(wire.aclose)
    return wire
