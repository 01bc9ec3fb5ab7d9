"""Cancels what a batch has at the service's Batch API, and takes in what is done."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypedDict

import anyio

from batchrun.batch.batch_api import collecting_engine, desk_of
from batchrun.batch.cleanup import service_endpoint
from batchrun.batch.left_shards import gather_left
from batchrun.batch.lock import hold
from batchrun.batch.output import write_output
from batchrun.batch.output_place import await_put, put_text
from batchrun.batch.paths import Paths, paths_of_output
from batchrun.batch.recorded_plan import recorded_plan
from batchrun.batch.run_summary import SUBMITTED
from batchrun.batch.service_batch_text import news_facts, results_text
from batchrun.batch.waves import CANCEL_AGAIN_S
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
from batchrun.shell_hint import command
from batchrun.tables import InputWatch
from batchrun.wording import rows_text, shown_output

__all__ = ["CancelFacts", "cancel_batch", "cancel_exit_code", "cancel_lines"]

CANCELLING_TIMEOUT_S: Final = 900.0
"""The longest wait for the end of what was cancelled: OpenAI takes up to 10 minutes."""
_POLL_S: Final = 15.0
"""Maximum seconds between two polls of a service batch that is being cancelled."""


class CancelFacts(TypedDict):
    """What `cancel` did, as `cancel --json` prints it.

    `cancelled` counts the batches at the service that were open and have ended, `open` those that the service is still
    cancelling; `answers` and `errors` the results that they gave. The rows are those of the whole batch, None if its
    input is missing; `uncollected` is why results are in the journal only, None if they are in the output; `not_put_to`
    the URL or path to which the next run puts the output, None if it stays where it is written.
    """

    event: str
    output: str
    cancelled: int
    open: int
    answers: int
    errors: int
    completed: int | None
    pending: int | None
    uncollected: str | None
    not_put_to: str | None


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
    patience_s: float = CANCELLING_TIMEOUT_S,
) -> CancelFacts:
    """Cancel the open service batches of an output, wait until they have ended, and write what they have answered.

    Rows without an answer are pending: the next run of the batch asks them.

    Args:
        job: credentials and other options of the connection; its table and prompt do not matter.
        show: called with each thing that happens to a service batch.
        patience_s: the longest wait for the end of the service batches; those that take longer stay open.

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
        gather_left(paths.journal)
        journal = stack.enter_context(Journal(paths.journal))
        manifest = journal.read_manifest()
        if "batch_id" not in manifest:
            raise OutputError(f"{paths.journal}: this journal holds no batch")
        earlier = WrittenOutput.taken(journal)  # before anything changes: the output shows which rows are in flight
        before = {batch.number for batch in journal.service_batches.open(place_of(manifest))}
        endpoint = stack.enter_context(service_endpoint(journal, paths, job, environment))
        await _cancel_all(journal, job, endpoint, clock, show, patience_s)
        collected = await _collect(journal, paths, job, endpoint, clock, earlier)
        ended = [batch for batch in journal.service_batches.all() if batch.number in before]
        left = sum(batch.is_open for batch in ended)
        return {
            "event": "cancel",
            "output": str(paths.output),
            "cancelled": len(before) - left,
            "open": left,
            "answers": sum(batch.answers for batch in ended),
            "errors": sum(batch.errors for batch in ended),
            "completed": collected.completed,
            "pending": collected.pending,
            "uncollected": collected.problem,
            "not_put_to": await_put(journal) if collected.problem is None else None,
        }


async def _cancel_all(
    journal: Journal,
    job: Job,
    endpoint: Endpoint,
    clock: WallClock,
    show: Callable[[str], None] | None,
    patience_s: float,
) -> None:
    """Cancel all open service batches, and wait until the results of each are in the journal."""

    def report(news: BatchNews) -> None:
        if show is not None:
            show(news_facts(news)["text"])

    deadline_s = anyio.current_time() + patience_s
    async with AsyncExitStack() as stack:
        wire = _wire(job, endpoint, stack)
        desk = desk_of(replace(job, batch_poll=min(job.batch_poll, _POLL_S)), journal, wire, clock, report)
        await desk.watch(once=True)  # what has ended meanwhile is only collected
        while await desk.cancel_all() and (now_s := anyio.current_time()) < deadline_s:
            # A cancellation without effect is requested again.
            await desk.watch(until_s=min(deadline_s, now_s + CANCEL_AGAIN_S))


async def _collect(
    journal: Journal, paths: Paths, job: Job, endpoint: Endpoint, clock: WallClock, earlier: WrittenOutput
) -> _Collected:
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
        input_watch = InputWatch(plan.source)
        journal.look_back()
        await engine.run(due_work(plan, journal, clock, journal.service_batches.due_rows()))
        journal.service_batches.tidy()
        _, totals = write_output(plan, journal, input_watch, earlier)
    left = totals.by_status["pending"] + totals.by_status["in_flight"]
    return _Collected(totals.by_status["completed"], left, None)


def cancel_exit_code(facts: CancelFacts) -> int:
    """Return the exit code of `cancel`."""
    return SUBMITTED if facts["open"] else 0


def cancel_lines(facts: CancelFacts) -> list[str]:
    """Return what `cancel` did, for people."""
    lines = []
    if facts["cancelled"]:
        came = results_text(facts["answers"], facts["errors"])
        lines.append(f"cancelled {_batches(facts['cancelled'])} at the service: {came}")
    elif not facts["open"]:
        lines.append("no batch of this output was open at the service")
    if facts["open"]:
        again = command("cancel", Path(facts["output"]))
        lines.append(f"the service is still cancelling {_batches(facts['open'])}: collect what is done with {again}")
    if facts["uncollected"] is not None:
        lines.append(f"not written to the output: {facts['uncollected']}")
    else:
        left = f", {facts['pending']:,} pending" if facts["pending"] else ""
        then = "; the next run asks these" if left and not facts["open"] else ""
        lines.append(f"{rows_text(facts['completed'] or 0)} completed{left}{then}")
        lines.append(f"written: {shown_output(Path(facts['output']))}")
        if facts["not_put_to"] is not None:
            lines.append(put_text(facts["not_put_to"], None))
    return lines


def _batches(number: int) -> str:
    return "1 batch" if number == 1 else f"{number:,} batches"


def _wire(job: Job, endpoint: Endpoint, stack: AsyncExitStack) -> Wire:
    """Return a connection for the requests of the desk, which `stack` closes."""
    wire = Wire(endpoint, Limits(), silence_timeout_s=job.silence_timeout)
    stack.push_async_callback(wire.aclose)
    return wire
