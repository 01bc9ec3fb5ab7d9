"""Batches from Python: a table in, a DataFrame of answers out."""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import current_token

from batchrun.api.event_loop import run_in_thread, run_loop
from batchrun.batch.lock import is_held, refuse_held
from batchrun.batch.output_path import output_of
from batchrun.batch.paths import paths_for
from batchrun.batch.ping import apinged
from batchrun.batch.plan import Plan, make_plan
from batchrun.batch.results import result_cells
from batchrun.batch.run import INPUT_CHANGED, run_batch
from batchrun.batch.run_summary import refused_text, summary_line
from batchrun.clock import utc_now
from batchrun.errors import BatchRefused, BatchrunError, InputError, unwrapped
from batchrun.interrupts import Interrupted, Interrupts
from batchrun.job.environment import ApiKey, Environment
from batchrun.job.file import table_and_options
from batchrun.job.options import Job, changed_options
from batchrun.job.validation import make_job
from batchrun.journal import Journal
from batchrun.records import Outcome, Settings
from batchrun.tables import to_frame, write_table

if TYPE_CHECKING:
    import pandas

__all__ = ["arun", "outcomes", "run"]

logger = logging.getLogger("batchrun")


async def arun(
    table: pandas.DataFrame | str | Path,
    job: Job | None = None,
    *,
    api_key: ApiKey | None = None,
    client_options: Settings | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
    **options: Any,
) -> pandas.DataFrame:
    """Run all rows of a table; return its columns and the outcomes, one row per input row, in order.

    Args:
        table: a DataFrame, or the path of a CSV, TSV, JSON Lines or Parquet file, or of a job file that names one.
        job: a `batchrun.Job`. `options` take precedence over it, and it takes precedence over a job file.
        api_key: the API key, or an async function that returns one whenever it is needed. Default: OPENAI_API_KEY from
            the environment.
        client_options: further arguments of the SDK's client, such as `{"workload_identity": ...}`.
        on_outcome: called for each row that ends in this run, as soon as its outcome is in the journal. It runs on the
            event loop, so it should be quick. An exception that it raises ends the batch; the journal keeps its rows.
        options: the options of the command line, with underscores in their names (`batchrun.Job`). With a path the
            output is written as by the command line. With a DataFrame no file is kept unless `output=` names one: only
            then can the same call resume. If the batch is cancelled or ends with an exception, its answers are kept in
            any case, and a note on the exception gives their path.

    Raises:
        InputError: the table, the template or an option is invalid.
        BatchRefused: the service refused the batch (key, quota, model), and no row has an answer.
        OutputError, OutputHeld, JournalMismatch: as for the command line.
    """
    return await _answers(_order(table, job, options, api_key, client_options), on_outcome)


async def _answers(
    order: _Order, on_outcome: Callable[[Outcome], None] | None, interrupts: Interrupts | None = None
) -> pandas.DataFrame:
    with _keeping_answers(order):
        plan = await _run_order(order, on_outcome, interrupts)
        with Journal(plan.paths.journal, read_only=True) as journal:
            cells = result_cells(plan.source, plan.prompter, journal, plan.added)
            return to_frame(plan.source, cells, plan.write_options)


@asynccontextmanager
async def outcomes(
    table: pandas.DataFrame | str | Path,
    job: Job | None = None,
    *,
    api_key: ApiKey | None = None,
    client_options: Settings | None = None,
    **options: Any,
) -> AsyncGenerator[AsyncIterator[Outcome]]:
    """Yield the outcomes of a batch as they arrive:

        async with batchrun.outcomes("questions.csv", model="gpt-4.1") as outcomes:
            async for outcome in outcomes:
                ...

    Only rows that end in this run are yielded, in the order in which they end. The output is written after the last
    one. Leaving the context earlier stops the batch: the journal keeps the rows that have ended, and the same call
    resumes. The answers of a DataFrame without `output=` are then kept in a folder that a warning, or a note on the
    exception, names.

    Args:
        table, job, api_key, client_options, options: as for `arun`.

    Raises:
        BatchrunError: as for `arun`; raised while a row is awaited.
    """
    send, receive = anyio.create_memory_object_stream[Outcome](math.inf)
    order = _order(table, job, options, api_key, client_options)
    with _keeping_answers(order) as answers, unwrapped():

        async def run_order() -> None:
            with send:
                await _run_order(order, send.send_nowait)
                answers.is_delivered = True

        answers.is_delivered = False
        raised: BaseException | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_order)
            with receive:
                try:
                    yield receive
                except anyio.get_cancelled_exc_class():
                    raise
                except BaseException as exc:  # noqa: BLE001 - raised below, without the exception group of the tasks
                    raised = exc
                tasks.cancel_scope.cancel()
        if raised is not None:
            raise raised


@dataclass(frozen=True, slots=True)
class _Order:
    """The arguments of a call from Python, resolved.

    Attributes:
        output: in a temporary folder if no output was named.
        keeps_output: the output is written and stays.
    """

    table: pandas.DataFrame | str | Path
    job: Job
    environment: Environment
    output: Path
    keeps_output: bool


def _order(
    table: pandas.DataFrame | str | Path,
    job: Job | None,
    options: Settings,
    api_key: ApiKey | None,
    client_options: Settings | None,
) -> _Order:
    environment = Environment.read(os.environ)
    if api_key is not None:
        environment = environment.with_key(api_key)
    if client_options is not None:
        environment = replace(environment, client_options=client_options)
    given = {**(changed_options(job) if job is not None else {}), **options}
    folder = Path()
    if isinstance(table, (str, Path)):
        table, folder, given = table_and_options(str(table), given, os.environ)
    made = make_job(given)
    keeps_output = made.output is not None or isinstance(table, (str, Path))
    if keeps_output:
        output = output_of(made, folder, str(table), utc_now)
    else:
        output = Path(tempfile.mkdtemp(prefix="batchrun-")) / "frame.csv"
    return _Order(table, made, environment, output, keeps_output)


@dataclass(slots=True)
class _Answers:
    """Mutable state: `is_delivered`, whether the caller has received every answer."""

    is_delivered: bool = True


@contextmanager
def _keeping_answers(order: _Order) -> Iterator[_Answers]:
    """Delete the temporary files of a DataFrame after the call, unless answers would be lost with them; report where
    the answers are if the batch did not end."""
    answers = _Answers()
    try:
        yield answers
    except BaseException as exc:
        answers.is_delivered = False
        where = _place_of_answers(order)
        if where is not None and not isinstance(exc, Interrupted):  # its text contains the path already
            exc.add_note(where)
        raise
    else:
        where = None if answers.is_delivered else _place_of_answers(order)
        if where is not None and not order.keeps_output:
            _warn(f"the batch was left before its end: {where}")
    finally:
        if not order.keeps_output and (answers.is_delivered or _place_of_answers(order) is None):
            shutil.rmtree(order.output.parent, ignore_errors=True)


def _place_of_answers(order: _Order) -> str | None:
    """Return where the answers so far are, for people; None if there are none."""
    journal = paths_for(order.output).journal
    try:
        with Journal(journal, read_only=True) as opened:
            counts = opened.counts()
            if not counts.completed + counts.incomplete:
                return None
    except BatchrunError:
        return None
    call = "the same call" if order.keeps_output else f"the same call with output={str(order.output)!r}"
    table = order.output if order.output.exists() else journal
    return f"the answers so far are in {table}; {call} resumes the batch"


async def _run_order(
    order: _Order, on_outcome: Callable[[Outcome], None] | None, interrupts: Interrupts | None = None
) -> Plan:
    if not order.job.wait:
        refuse_held(paths_for(order.output).lock)  # before a start is reported: the other batch is fine
    async with apinged(order.job.ping, _warn) as final_status:
        plan = make_plan(order.job, order.table, order.environment, order.output, write_output=order.keeps_output)
        if plan.destination.why_embedded:
            logger.warning(plan.destination.why_embedded)
        for notice in plan.notices:
            _warn(notice)
        try:
            summary = await run_batch(plan, order.environment, on_outcome=on_outcome, interrupts=interrupts)
        except BaseException as exc:
            if not isinstance(exc, BatchrunError):
                _write_so_far(plan)
            if interrupts is not None and isinstance(exc, anyio.get_cancelled_exc_class()):
                place = _place_of_answers(order) or "no row has an answer yet"
                raise Interrupted(f"interrupted: {place}") from exc
            raise
        final_status.exit_code, final_status.line = summary.exit_code, summary_line(summary)
    if summary.totals.refused:
        _warn(f"{refused_text(summary.totals.refused, summary.rows)}: it is not a language model")
    if interrupts is not None and summary.stop is not None and summary.stop.exit_code == 128 + signal.SIGINT:
        if not order.keeps_output:
            _write_so_far(plan)
        raise Interrupted(f"{summary.stop.reason}: {_place_of_answers(order) or 'no row has an answer yet'}")
    if summary.stop is not None and not summary.totals.by_status.keys() & {"completed", "incomplete"}:
        if summary.stop is INPUT_CHANGED:
            raise InputError(summary.stop.reason)
        raise BatchRefused(summary.stop.reason, error_type="batch_stopped")
    return plan


def _write_so_far(plan: Plan) -> None:
    """Write the output of a batch that ends with an exception: the answers that its journal has so far."""
    if is_held(plan.paths.lock):
        return  # this batch was still waiting for the lock: another one is writing the output
    try:
        with Journal(plan.paths.journal, read_only=True) as journal:
            if not journal.is_empty():
                cells = result_cells(plan.source, plan.prompter, journal, plan.added)
                write_table(plan.paths.output, plan.source, cells, plan.write_options)
    except BatchrunError:
        return  # the exception that ended the batch is the one to raise


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def run(
    table: pandas.DataFrame | str | Path,
    job: Job | None = None,
    *,
    api_key: ApiKey | None = None,
    client_options: Settings | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
    **options: Any,
) -> pandas.DataFrame:
    """Run all rows of a table, like `arun`, from code that is not async; also as `df.pipe(batchrun.run, ...)`.

    If an event loop is already running (in a notebook), the batch runs in a separate thread, and `on_outcome` is called
    there.

    Ctrl-C, or the interruption of a notebook's cell, stops the batch as on the command line: rows in flight get `grace`
    seconds, the output is written, and a KeyboardInterrupt gives the path of the answers. A second one drops the rows
    in flight.

    Raises:
        BatchrunError: as for `arun`.
        KeyboardInterrupt: the batch was interrupted; the rows that have ended are kept.
    """
    interrupts = Interrupts()

    async def main() -> pandas.DataFrame:
        return await _answers(_order(table, job, options, api_key, client_options), on_outcome, interrupts)

    try:
        current_token()
    except RuntimeError:
        # A program with its own SIGINT handler keeps it.
        ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with interrupts.installed((signal.SIGINT,) if ours else ()):
            return run_loop(main(), interrupts)
    return run_in_thread(main(), interrupts)
