"""The Python call: a table in, a DataFrame of answers out."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import os
import shutil
import signal
import tempfile
import threading
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from anyio.lowlevel import current_token

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
from batchrun.job.options import Job, given_in
from batchrun.job.validation import make_job
from batchrun.journal import Journal
from batchrun.records import Outcome
from batchrun.tables import to_frame, write_table

if TYPE_CHECKING:
    import pandas

__all__ = ["arun", "outcomes", "run"]

logger = logging.getLogger("batchrun")

T = TypeVar("T")


async def arun(
    table: pandas.DataFrame | str | Path,
    job: Job | None = None,
    *,
    api_key: ApiKey | None = None,
    client_options: Mapping[str, Any] | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
    **options: Any,
) -> pandas.DataFrame:
    """Ask every row of a table; returns its columns and the outcomes, one row per input row, in order.

    Args:
        table: a DataFrame, or the path of a CSV, TSV, JSON Lines or Parquet file, or of a job file that names one.
        job: a `batchrun.Job`; `options` win over it, and it wins over a job file.
        api_key: of the service, or an async function that makes one whenever it is needed. Default: the environment's
            OPENAI_API_KEY.
        client_options: further arguments of the SDK's client, such as `{"workload_identity": ...}`.
        on_outcome: called for each row that ends in this run, the moment its outcome is in the journal; on the event
            loop, so it should be quick. What it raises ends the batch; what is in the journal stays.
        options: those of the command line, by their names with underscores (`batchrun.Job`). A path writes its
            output as the command line does. A DataFrame keeps no files, unless `output=` names one: only
            then can the same call resume. If the batch is cancelled, or ends by an exception, its answers are kept in
            any case, and a note on the exception says where.

    Raises:
        InputError: table, template or option cannot be used.
        BatchRefused: the service refused (key, quota, model) and no row has an answer.
        OutputError, OutputHeld, JournalMismatch: as for the command line.
    """
    return await _answers(_ordered(table, job, options, api_key, client_options), on_outcome)


async def _answers(
    order: _Order, on_outcome: Callable[[Outcome], None] | None, interrupts: Interrupts | None = None
) -> pandas.DataFrame:
    with _kept(order):
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
    client_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> AsyncGenerator[AsyncIterator[Outcome]]:
    """The outcomes of a batch as they come, in an `async with`:

        async with batchrun.outcomes("questions.csv", model="gpt-4.1") as outcomes:
            async for outcome in outcomes:
                ...

    Only rows that end in this run come, in the order in which they end. When the last one has come, the output is
    written. Leaving earlier stops the batch where it is: what has ended is in the journal, and the same call goes on. A
    DataFrame without `output=` has its answers kept in a folder that a warning names, or a note on the exception.

    Args:
        table, job, api_key, client_options, options: as of `arun`.

    Raises:
        BatchrunError: as `arun`; where rows are waited for.
    """
    send, receive = anyio.create_memory_object_stream[Outcome](math.inf)
    order = _ordered(table, job, options, api_key, client_options)
    with _kept(order) as kept, unwrapped():

        async def run_order() -> None:
            with send:
                await _run_order(order, send.send_nowait)
                kept.whole = True

        kept.whole = False
        raised: BaseException | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_order)
            with receive:
                try:
                    yield receive
                except anyio.get_cancelled_exc_class():
                    raise
                except BaseException as exc:  # noqa: BLE001 - raised below, bare and not in the group's wrapping
                    raised = exc
                tasks.cancel_scope.cancel()
        if raised is not None:
            raise raised


@dataclass(frozen=True, slots=True)
class _Order:
    """A batch as it was asked for from Python.

    Attributes:
        keep: the output is to be written.
    """

    table: pandas.DataFrame | str | Path
    job: Job
    environment: Environment
    output: Path
    keep: bool


def _ordered(
    table: pandas.DataFrame | str | Path,
    job: Job | None,
    options: Mapping[str, Any],
    api_key: ApiKey | None,
    client_options: Mapping[str, Any] | None,
) -> _Order:
    environment = Environment.read(os.environ)
    if api_key is not None:
        environment = environment.with_key(api_key)
    if client_options is not None:
        environment = replace(environment, client_options=client_options)
    given = {**(given_in(job) if job is not None else {}), **options}
    folder = Path()
    if isinstance(table, (str, Path)):
        table, folder, given = table_and_options(str(table), given, os.environ)
    made = make_job(given)
    keep = made.output is not None or isinstance(table, (str, Path))
    if keep:
        output = output_of(made, folder, str(table), utc_now)
    else:
        output = Path(tempfile.mkdtemp(prefix="batchrun-")) / "frame.csv"
    return _Order(table, made, environment, output, keep)


@dataclass(slots=True)
class _Kept:
    """Attributes:
    whole: the caller has been given every answer.
    """

    whole: bool = True


@contextmanager
def _kept(order: _Order) -> Iterator[_Kept]:
    """Around a batch: what it leaves behind. Files of a frame go with the call, unless answers would go with them."""
    kept = _Kept()
    try:
        yield kept
    except BaseException as exc:
        kept.whole = False
        where = _place_of_answers(order)
        if where is not None and not isinstance(exc, Interrupted):  # whose text names it
            exc.add_note(where)
        raise
    else:
        where = None if kept.whole else _place_of_answers(order)
        if where is not None and not order.keep:
            _warn(f"left before the batch had ended: {where}")
    finally:
        if not order.keep and (kept.whole or _place_of_answers(order) is None):
            shutil.rmtree(order.output.parent, ignore_errors=True)


def _place_of_answers(order: _Order) -> str | None:
    """Where the answers so far are, for people; None if there are none."""
    journal = paths_for(order.output).journal
    try:
        with Journal(journal, read_only=True) as opened:
            counts = opened.counts()
            if not counts.completed + counts.incomplete:
                return None
    except BatchrunError:
        return None
    call = "the same call goes on" if order.keep else f"the same call with output={str(order.output)!r} goes on"
    table = order.output if order.output.exists() else journal
    return f"the answers so far are in {table}; {call}"


async def _run_order(
    order: _Order, on_outcome: Callable[[Outcome], None] | None, interrupts: Interrupts | None = None
) -> Plan:
    if not order.job.wait:
        refuse_held(paths_for(order.output).lock)  # before the watch hears of a start: the other batch is fine
    async with apinged(order.job.ping, _warn) as verdict:
        plan = make_plan(order.job, order.table, order.environment, order.output, write_output=order.keep)
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
                place = _place_of_answers(order) or "nothing was answered yet"
                raise Interrupted(f"interrupted: {place}") from exc
            raise
        verdict.exit_code, verdict.line = summary.exit_code, summary_line(summary)
    if summary.totals.refused:
        _warn(f"{refused_text(summary.totals.refused, summary.rows)}: it is not a language model")
    if interrupts is not None and summary.stop is not None and summary.stop.exit_code == 128 + signal.SIGINT:
        if not order.keep:
            _write_so_far(plan)
        raise Interrupted(f"{summary.stop.reason}: {_place_of_answers(order) or 'nothing was answered yet'}")
    if summary.stop is not None and not summary.totals.by_status.keys() & {"completed", "incomplete"}:
        if summary.stop is INPUT_CHANGED:
            raise InputError(summary.stop.reason)
        raise BatchRefused(summary.stop.reason, error_type="batch_stopped")
    return plan


def _write_so_far(plan: Plan) -> None:
    """Write the output of a batch that ends by an exception, from its journal, as far as that goes."""
    if is_held(plan.paths.lock):
        return  # the output was waited for: another batch works on it
    try:
        with Journal(plan.paths.journal, read_only=True) as journal:
            if not journal.is_empty():
                cells = result_cells(plan.source, plan.prompter, journal, plan.added)
                write_table(plan.paths.output, plan.source, cells, plan.write_options)
    except BatchrunError:
        return  # the exception that ended the batch is the one to tell


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def run(
    table: pandas.DataFrame | str | Path,
    job: Job | None = None,
    *,
    api_key: ApiKey | None = None,
    client_options: Mapping[str, Any] | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
    **options: Any,
) -> pandas.DataFrame:
    """`arun` for code that is not async, also as `df.pipe(batchrun.run, ...)`. Where an event loop already runs (a
    notebook), a thread of its own is used, and `on_outcome` is called there.

    Ctrl-C, or the interruption of a notebook's cell, stops the batch as it does on the command line: rows in flight get
    `grace` seconds, the output is written, and a KeyboardInterrupt says where the answers are. A second one drops what
    is in flight.

    Raises:
        BatchrunError: as `arun`.
        KeyboardInterrupt: it was interrupted; what has ended is kept.
    """
    interrupts = Interrupts()

    async def main() -> pandas.DataFrame:
        return await _answers(_ordered(table, job, options, api_key, client_options), on_outcome, interrupts)

    try:
        current_token()
    except RuntimeError:
        # A program that handles SIGINT itself keeps its way.
        ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with interrupts.installed((signal.SIGINT,) if ours else ()):
            return run_loop(main(), interrupts)
    return _in_thread(main(), interrupts)


def run_loop(main: Coroutine[Any, Any, T], interrupts: Interrupts) -> T:
    """Run a coroutine on the fastest loop there is (uvloop; not on Windows). A signal cancels it, unless it listens
    itself.

    Raises:
        Interrupted: it was cancelled by SIGINT; by another signal: SystemExit.
    """
    heard: list[signal.Signals] = []

    async def call() -> T:
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        with anyio.CancelScope() as scope:

            def cancel(number: signal.Signals) -> None:
                heard.append(number)
                loop.call_soon_threadsafe(scope.cancel, context=context)

            with interrupts.heard(cancel):
                return await main
        if heard[0] is signal.SIGINT:
            raise Interrupted("interrupted")
        raise SystemExit(128 + heard[0])

    return anyio.run(call, backend_options={"use_uvloop": os.name != "nt"})


def _in_thread(main: Coroutine[Any, Any, T], interrupts: Interrupts) -> T:
    results: list[T] = []
    errors: list[BaseException] = []
    ended = threading.Event()  # a `join` that is interrupted takes its thread for ended (Python up to 3.12)

    def work() -> None:
        try:
            results.append(run_loop(main, interrupts))
        except BaseException as exc:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(exc)
        ended.set()

    thread = threading.Thread(target=work, name="batchrun")
    thread.start()
    while not ended.is_set():
        try:
            ended.wait()
        except KeyboardInterrupt:
            interrupts.interrupt()  # nothing of the batch outlives the call: its thread is waited for
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
