"""A call from Python: its arguments, its batch, and where its answers are if the batch does not end."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import anyio

from batchrun.api.caller import Caller
from batchrun.api.data import Given, read_data
from batchrun.api.progress_bar import watch_of
from batchrun.batch.lock import is_held, refuse_held
from batchrun.batch.output_path import output_of, with_dates
from batchrun.batch.paths import paths_for
from batchrun.batch.ping import apinged
from batchrun.batch.plan import Plan, make_plan
from batchrun.batch.progress import Watch
from batchrun.batch.results import result_cells
from batchrun.batch.run import INPUT_CHANGED, run_batch
from batchrun.batch.run_summary import summary_line
from batchrun.batch.table_faults import table_faults
from batchrun.clock import utc_now
from batchrun.errors import BatchRefused, BatchrunError, InputError, JournalMismatch
from batchrun.interrupts import Interrupted, Interrupts
from batchrun.job.environment import ApiKey, Environment
from batchrun.job.file import table_and_options
from batchrun.job.options import Job, changed_options
from batchrun.job.validation import make_job
from batchrun.journal import Journal
from batchrun.records import Outcome, Settings
from batchrun.tables import write_table
from batchrun.wording import shortened

__all__ = ["Call", "keeping_answers", "resolve", "run_call"]

_NEEDS_OUTPUT: Final = {
    "batch_api": "its journal names the batches at the service, and has to outlive the call",
    "accept_changes": "without it nothing is kept that could be resumed",
    "code_interpreter": "the files that the model creates are saved next to it",
    "journal": "it is the journal of an output",
    "max_age": "without it, or cache=..., no answer of an earlier run is kept",
    "retry_failed": "without it nothing is kept that could be resumed",
    "safe_csv": "it is about the cells of an output file",
    "wait": "without it no other batch can be writing the same output",
}
"""Options that have no effect, or a wrong one, on a table in memory without `output`, and the reason."""


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments of a call from Python, resolved.

    Attributes:
        output: in a temporary folder if no output was named.
        keeps_output: the output is written and stays.
        caller: the line that called, at which warnings are reported.
        watch: shows the progress; None for nothing.
    """

    data: Given
    job: Job
    environment: Environment
    output: Path
    keeps_output: bool
    caller: Caller
    watch: Watch | None


def resolve(
    data: object,
    job: Job | None,
    options: Settings,
    api_key: ApiKey | None,
    client_options: Settings | None,
    progress: bool | None,
) -> Call:
    """Return the call with these arguments (see `run`).

    Raises:
        InputError: `data` is not a table, or an option is unknown, invalid or without effect.
    """
    if job is not None and not isinstance(job, Job):
        raise InputError(f"job: expected a batchrun.Job, got {shortened(job)}; a prompt is given as prompt=...")
    given = read_data(data)
    environment = Environment.read(os.environ)
    if api_key is not None:
        environment = environment.with_key(api_key)
    if client_options is not None:
        environment = replace(environment, client_options=client_options)
    settings = {**(changed_options(job) if job is not None else {}), **options}
    folder = Path()
    if given.is_path:
        table, folder, settings = table_and_options(str(given.table), settings, os.environ, table_faults)
        given = Given(table)
    made = with_dates(make_job(settings), utc_now)
    keeps_output = made.output is not None or given.is_path
    caller, watch = Caller.here(), watch_of(progress)
    if keeps_output:
        output = output_of(made, folder, str(given.table))
        return Call(given, made, environment, output, keeps_output, caller, watch)
    for name, reason in _NEEDS_OUTPUT.items():
        if getattr(made, name) and not (name == "max_age" and made.cache is not None):
            raise InputError(f"{name}: needs output=..., because {reason}")
    output = Path(tempfile.mkdtemp(prefix="batchrun-")) / "frame.csv"
    return Call(given, made, environment, output, keeps_output, caller, watch)


@dataclass(slots=True)
class _Delivery:
    """Mutable state: `is_delivered`, whether the caller has received every answer."""

    is_delivered: bool = True


@contextmanager
def keeping_answers(call: Call) -> Iterator[_Delivery]:
    """Delete the temporary files of a DataFrame after the call, unless answers would be lost with them; report where
    the answers are if the batch did not end."""
    answers = _Delivery()
    try:
        yield answers
    except BaseException as exc:
        answers.is_delivered = False
        place = _place_of_answers(call)
        if isinstance(exc, BatchrunError | Interrupted):
            exc.answers = place
        # The text of Interrupted contains the path already, and the same call cannot resume the batch of another job.
        if place is not None and not isinstance(exc, Interrupted | JournalMismatch):
            exc.add_note(_how_to_resume(call, place))
        raise
    else:
        place = None if answers.is_delivered else _place_of_answers(call)
        if place is not None and not call.keeps_output:
            call.caller.warn(f"the batch was left before its end: {_how_to_resume(call, place)}")
    finally:
        if not call.keeps_output and (answers.is_delivered or _place_of_answers(call) is None):
            shutil.rmtree(call.output.parent, ignore_errors=True)


def _place_of_answers(call: Call) -> Path | None:
    """Return the output or the journal with the answers so far; None if there are none."""
    journal = paths_for(call.output).journal
    try:
        with Journal(journal, read_only=True) as opened:
            counts = opened.counts()
            if not counts.completed + counts.incomplete:
                return None
    except BatchrunError:
        return None
    return call.output if call.output.exists() else journal


def _how_to_resume(call: Call, place: Path | None) -> str:
    """Return where the answers so far are and which call resumes the batch."""
    if place is None:
        return "no row has an answer yet"
    same_call = "the same call" if call.keeps_output else f"the same call with output={str(call.output)!r}"
    return f"the answers so far are in {place}; {same_call} resumes the batch"


async def run_call(
    call: Call,
    on_outcome: Callable[[Outcome], None] | None,
    interrupts: Interrupts | None = None,
    check: Callable[[Plan], None] | None = None,
) -> Plan:
    """Run the batch of a call to its end and return its plan.

    Args:
        check: called with the plan before the first row is sent.

    Raises:
        BatchrunError: as for `run`.
        Interrupted: `interrupts` reported Ctrl-C.
    """
    if not call.job.wait:
        refuse_held(paths_for(call.output).lock)  # before a start is reported: the other batch is fine
    async with apinged(call.job.ping, call.caller.warn, with_start=not call.job.no_wait) as final_status:
        plan = make_plan(call.job, call.data.table, call.environment, call.output, write_output=call.keeps_output)
        if check is not None:
            check(plan)
        call.caller.announce(plan, is_chosen=bool(call.job.model or call.job.script))
        try:
            summary = await run_batch(
                plan,
                call.environment,
                watch=call.watch,
                on_outcome=on_outcome,
                interrupts=interrupts,
                notify=call.caller.warn,
            )
        except BaseException as exc:
            if not isinstance(exc, BatchrunError):
                _write_so_far(plan)
            if interrupts is not None and isinstance(exc, anyio.get_cancelled_exc_class()):
                raise Interrupted(f"interrupted: {_how_to_resume(call, _place_of_answers(call))}") from exc
            raise
        final_status.exit_code, final_status.line = summary.exit_code, summary_line(summary)
    if interrupts is not None and summary.stop is not None and summary.stop.exit_code == 128 + signal.SIGINT:
        if not call.keeps_output:
            _write_so_far(plan)
        raise Interrupted(f"{summary.stop.reason}: {_how_to_resume(call, _place_of_answers(call))}")
    is_answered = summary.totals.by_status.keys() & {"completed", "incomplete"}
    if summary.stop is not None and not summary.is_submitted and not is_answered:
        if summary.stop is INPUT_CHANGED:
            raise InputError(summary.stop.reason)
        raise BatchRefused(summary.stop.reason, error_type="batch_stopped")
    call.caller.report(summary)
    return plan


def _write_so_far(plan: Plan) -> None:
    """Write the output of a batch that ends with an exception: the answers that its journal has so far."""
    if is_held(plan.paths.lock):
        return  # this batch was still waiting for the lock: another one is writing the output
    try:
        with Journal(plan.paths.journal, read_only=True) as journal:
            if not journal.is_empty():
                added, options = plan.added.with_found(journal, plan.write_options)
                cells = result_cells(plan.source, plan.prompter, journal, added, plan.selection)
                write_table(plan.paths.output, plan.source, cells, options)
    except BatchrunError:
        return  # the exception that ended the batch is the one to raise
