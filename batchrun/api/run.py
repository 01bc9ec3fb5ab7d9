"""Batches from Python: a table in, a table of answers out."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

import anyio
from anyio import to_thread

from batchrun.api.call import Call, keeping_answers, resolve, run_call
from batchrun.api.data import SeriesOf, TableT
from batchrun.api.event_loop import run_to_end
from batchrun.api.job_options import JobOptions
from batchrun.api.parameters import CallersWords
from batchrun.api.scored_run import Mode, estimated, mode_of, piloted, scoring_of
from batchrun.api.signatures import CallOptions, PlainOptions, RunOptions, with_options
from batchrun.batch.plan import Plan
from batchrun.batch.results import result_cells
from batchrun.errors import InputError, unwrapped
from batchrun.interrupts import Interrupts
from batchrun.job.environment import ApiKey
from batchrun.job.options import Job
from batchrun.journal import Journal
from batchrun.records import Outcome, Settings
from batchrun.wording import shortened

if TYPE_CHECKING:
    import pandas

    from batchrun.api.data import Data, FrameData
    from batchrun.api.estimates import DryRunEstimate, PilotEstimate
    from batchrun.api.scores import Scores
    from batchrun.api.scoring_call import ScorerGiven

__all__ = ["arun", "outcomes", "run"]


@overload
def run(data: FrameData, job: Job | None = None, **options: Unpack[PlainOptions]) -> pandas.DataFrame: ...
@overload
def run(data: SeriesOf[TableT], job: Job | None = None, **options: Unpack[PlainOptions]) -> TableT: ...
@overload
def run(data: TableT, job: Job | None = None, **options: Unpack[PlainOptions]) -> TableT: ...
@overload
def run(
    data: Data,
    job: Job | None = None,
    *,
    dry_run: Literal[True],
    score: ScorerGiven | None = None,
    **options: Unpack[CallOptions],
) -> DryRunEstimate: ...
@overload
def run(data: Data, job: Job | None = None, *, pilot: int, **options: Unpack[CallOptions]) -> PilotEstimate: ...
@overload
def run(data: Data, job: Job | None = None, *, score: ScorerGiven, **options: Unpack[CallOptions]) -> Scores: ...
@with_options
def run(
    data: Data,
    job: Job | None = None,
    *,
    api_key: ApiKey | None = None,
    client_options: Settings | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
    progress: bool | None = None,
    score: ScorerGiven | None = None,
    dry_run: bool = False,
    pilot: int | None = None,
    **options: Unpack[RunOptions],
) -> Any:
    """Run all rows of a table; return its columns and the outcomes, one row per input row, in order.

    Args:
        data: a pandas, polars or Arrow table; a pandas or polars Series, whose name is the column (else `prompt`); a
            list of texts (the column `prompt`); a list of dicts; or the path of a CSV, Excel, JSON or Parquet file,
            of a folder or pattern of such files, the URL of one (`s3://…`), or the path of a job file that names one.
        job: a `batchrun.Job`. `options` take precedence over it, and it takes precedence over a job file.
        api_key: the API key, or an async function that returns one whenever it is needed. Default: OPENAI_API_KEY from
            the environment.
        client_options: further arguments of the SDK's client, such as `{"workload_identity": ...}`.
        on_outcome: called for each row that ends in this run, as soon as its outcome is in the journal. It runs on the
            event loop, so it should be quick. An exception that it raises ends the batch; the journal keeps its rows.
        progress: True shows how far the batch is: a bar in a notebook and on a terminal, elsewhere a line on standard
            error every 30 seconds. False shows nothing. Default: the bar where there is a notebook or a terminal.
        score: the scorers of `batchrun.score`, which then scores the answers; its options (`target`, `by`, `fail_under`
            …) may be given too. They are checked before the first row is sent.
        dry_run: only estimate tokens, cost and time. Nothing is sent or written.
        pilot: number of random rows to run, for an estimate of the whole table. It needs `output`: the same call
            without `pilot` runs the other rows.
        options: the options of the command line, with underscores in their names; `batchrun.Job` explains each. A
            `schema` may also be a pydantic model or a dict, and `tools` a list of functions, sync or async.

    Returns:
        With `score` a `Scores`, whose `to_frame()` has answers and scores; with `dry_run` a `DryRunEstimate`; with
        `pilot` a `PilotEstimate`. Otherwise a table.

        A polars frame for polars, an Arrow table for Arrow, otherwise a pandas frame. The columns of the input come
        first and keep their types; a pandas frame also keeps its index. Other indexes are the position of the row in
        the input, from 0. With `matrix`, several models or `epochs` there is one row per combination: the columns that
        name it (`axis_model`, `epoch`) follow the input's own, and the rows of one input row share its index value.

        These columns are added (dtypes of pandas; in Arrow and Parquet string, int64, double, bool and timestamp[us,
        UTC]). Each may have missing values.

        - `response`, `status`, `error_type`, `error`, `thread_id`, `run_id`, `model`: str. `status` is `completed`,
          `incomplete`, `failed`, `expired` or `cancelled`; `pending` if the batch stopped before the row; `skipped`
          if `where`, `sample` or `limit` left the row out.
        - `prompt_tokens`, `completion_tokens`, `total_tokens`, `cached_tokens`, `reasoning_tokens`, `attempts`: Int64.
        - `cost_usd` (US dollars), `duration_s` (seconds in flight, without waits for limits): Float64.
        - `completed_at`: datetime64[us, UTC].
        - `response_1` and so on, the answers of several turns: str. The fields of a `schema`: str, Int64, Float64 or
          boolean; objects and lists are JSON text.
        - `tool_calls`, `tool_errors`, the numbers of function calls: Int64.
        - `citations`, `files`, `logprobs`: object, each a list; `raw`: object, each a dict, or a list for a streamed
          chat completion; `reasoning`, `service_tier`: str. They are there if an answer has something for them or an
          option such as `keep` asks for them.

    With a path the output is also written to a file, as by the command line. For a table in memory no file is kept
    unless `output=` names one: only then can the same call resume. If the batch is interrupted or ends with an
    exception, its answers are kept in any case, and the exception or a note on it gives their path.

    If an event loop is already running (in a notebook), the batch runs in a separate thread, and `on_outcome` is called
    there. Ctrl-C, or the interruption of a notebook's cell, stops the batch as on the command line: rows in flight get
    `grace` seconds, the output is written, and a KeyboardInterrupt gives the path of the answers. A second one drops
    the rows in flight.

    `df.pipe(batchrun.run, ...)` is the same call. There is no accessor `df.batchrun`: it could only be registered where
    pandas was imported before batchrun, and would otherwise make `import batchrun` import pandas.

    Raises:
        InputError: the data, the template or an option is invalid.
        BatchRefused: the service refused the batch (key, quota, model), and no row has an answer.
        OutputError, OutputHeld, JournalMismatch: as for the command line.
        KeyboardInterrupt: the batch was interrupted; the rows that have ended are kept.

    Examples:
        >>> import batchrun
        >>> answers = batchrun.run(["What is 15% of 80?", "2 + 2"], model="tutor")
        >>> answers["response"].tolist()
        ['15% of 80 is 12.', '2 + 2 = 4.']

        >>> import pandas as pd
        >>> frame = pd.DataFrame({"a": [1, 20]}, index=["x", "y"])
        >>> batchrun.run(frame, prompt="{{ a }} + {{ a }}", model="tutor").loc["y", "response"]
        '20 + 20 = 40.'
    """
    interrupts = Interrupts()
    with CallersWords():
        job_options: dict[str, Any] = {**options}
        mode = mode_of(data, job_options, score=score, dry_run=dry_run, pilot=pilot)
        call = resolve(data, job, job_options, api_key, client_options, progress)
        return run_to_end(partial(_result, call, mode, data, on_outcome, interrupts), interrupts)


@overload
async def arun(data: FrameData, job: Job | None = None, **options: Unpack[PlainOptions]) -> pandas.DataFrame: ...
@overload
async def arun(data: SeriesOf[TableT], job: Job | None = None, **options: Unpack[PlainOptions]) -> TableT: ...
@overload
async def arun(data: TableT, job: Job | None = None, **options: Unpack[PlainOptions]) -> TableT: ...
@overload
async def arun(
    data: Data,
    job: Job | None = None,
    *,
    dry_run: Literal[True],
    score: ScorerGiven | None = None,
    **options: Unpack[CallOptions],
) -> DryRunEstimate: ...
@overload
async def arun(data: Data, job: Job | None = None, *, pilot: int, **options: Unpack[CallOptions]) -> PilotEstimate: ...
@overload
async def arun(data: Data, job: Job | None = None, *, score: ScorerGiven, **options: Unpack[CallOptions]) -> Scores: ...
@with_options
async def arun(
    data: Data,
    job: Job | None = None,
    *,
    api_key: ApiKey | None = None,
    client_options: Settings | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
    progress: bool | None = None,
    score: ScorerGiven | None = None,
    dry_run: bool = False,
    pilot: int | None = None,
    **options: Unpack[RunOptions],
) -> Any:
    """Run all rows of a table, like `run`, from async code.

    Cancellation ends the batch: the rows that have ended are kept, and a note on the exception gives their path.

    Args:
        data, job, api_key, client_options, on_outcome, progress, score, dry_run, pilot, options: as for `run`.

    Raises:
        BatchrunError: as for `run`.

    Examples:
        >>> import anyio, batchrun
        >>> async def main():
        ...     answers = await batchrun.arun(["7 * 6"], model="tutor")
        ...     print(answers.loc[0, "response"])
        >>> anyio.run(main)
        7 * 6 = 42.
    """
    with CallersWords():
        job_options: dict[str, Any] = {**options}
        mode = mode_of(data, job_options, score=score, dry_run=dry_run, pilot=pilot)
        call = resolve(data, job, job_options, api_key, client_options, progress)
        return await _result(call, mode, data, on_outcome)


async def _result(
    call: Call,
    mode: Mode,
    data: object,
    on_outcome: Callable[[Outcome], None] | None,
    interrupts: Interrupts | None = None,
) -> Any:
    """Return the answers of a call, or what its mode asks for.

    Raises:
        InputError: `on_outcome` cannot be called.
    """
    if mode.unused is not None:
        call.caller.warn(f"{mode.unused}: its table [score] is not used; score=... scores the answers with its options")
    try:
        if on_outcome is not None and not callable(on_outcome):
            raise InputError(f"on_outcome: expected a function that takes an outcome, got {shortened(on_outcome)}")
        if mode.pilot is not None:
            return await piloted(call, mode.pilot, interrupts)
        if mode.score is None:
            return estimated(call) if mode.dry_run else await _answers(call, on_outcome, interrupts)
        with scoring_of(call, mode, data) as scored:
            if mode.dry_run:
                return estimated(call, scored)
            answers = await _answers(scored.in_pandas, on_outcome, interrupts, scored.check)
            return await to_thread.run_sync(scored.scores, answers)
    finally:
        if not call.keeps_output and call.output.parent.exists() and not any(call.output.parent.iterdir()):
            call.output.parent.rmdir()  # nothing was kept in the temporary folder


async def _answers(
    call: Call,
    on_outcome: Callable[[Outcome], None] | None,
    interrupts: Interrupts | None = None,
    check: Callable[[Plan], None] | None = None,
) -> Any:
    with keeping_answers(call):
        plan = await run_call(call, on_outcome, interrupts, check)
        with Journal(plan.paths.journal, read_only=True) as journal:
            added, options = plan.added.with_found(journal, plan.write_options)
            cells = result_cells(plan.source, plan.prompter, journal, added, plan.selection)
            return call.data.to_answers(plan.source, cells, options)


@with_options
@asynccontextmanager
async def outcomes(
    data: Data,
    job: Job | None = None,
    *,
    api_key: ApiKey | None = None,
    client_options: Settings | None = None,
    progress: bool | None = None,
    **options: Unpack[JobOptions],
) -> AsyncGenerator[AsyncIterator[Outcome]]:
    """Yield the outcomes of a batch as they arrive.

    Only rows that end in this run are yielded, in the order in which they end. The output is written after the last
    one. Leaving the context earlier stops the batch: the journal keeps the rows that have ended, and the same call
    resumes. The answers of a table in memory without `output=` are then kept in a folder that a warning, or a note on
    the exception, names.

    Args:
        data, job, api_key, client_options, progress, options: as for `run`.

    Raises:
        BatchrunError: as for `run`; raised while a row is awaited.

    Examples:
        >>> import anyio, batchrun
        >>> async def main():
        ...     async with batchrun.outcomes(["7 * 6"], model="tutor") as outcomes:
        ...         async for outcome in outcomes:
        ...             print(outcome.row_key, outcome.response)
        >>> anyio.run(main)
        0 7 * 6 = 42.
    """
    send, receive = anyio.create_memory_object_stream[Outcome](math.inf)
    with CallersWords():
        call = resolve(data, job, options, api_key, client_options, progress)
    with CallersWords(), keeping_answers(call) as answers:

        async def run_all() -> None:
            with send:
                await run_call(call, send.send_nowait)
                answers.is_delivered = True

        answers.is_delivered = False
        raised: BaseException | None = None
        with unwrapped():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run_all)
                with receive:
                    try:
                        yield receive
                    except anyio.get_cancelled_exc_class():
                        raise
                    except BaseException as exc:  # noqa: BLE001 - raised below, outside of the group of the tasks
                        raised = exc
                    tasks.cancel_scope.cancel()
        if raised is not None:
            raise raised
