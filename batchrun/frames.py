"""The Python call: a table in, a DataFrame of answers out."""

from __future__ import annotations

import math
import os
import tempfile
import threading
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from anyio.lowlevel import current_token

from batchrun.batch import run_batch
from batchrun.clock import utc_now
from batchrun.display import refused_text, summary_line
from batchrun.errors import BatchRefused, unwrapped
from batchrun.job import ApiKey, Environment, Job, given_in, make_job
from batchrun.jobfile import table_and_options
from batchrun.journal import Journal
from batchrun.ping import apinged
from batchrun.plan import Plan, make_plan, output_of
from batchrun.records import Outcome
from batchrun.results import result_cells
from batchrun.tables import to_frame

if TYPE_CHECKING:
    import pandas

__all__ = ["arun", "outcomes", "run"]

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
            then can the same call resume.

    Raises:
        InputError: table, template or option cannot be used.
        BatchRefused: the service refused (key, quota, model) and no row has an answer.
        OutputError, OutputHeld, JournalMismatch: as for the command line.
    """
    with ExitStack() as stack:
        order = _ordered(table, job, options, api_key, client_options, stack)
        plan = await _run_order(order, on_outcome)
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
    written. Leaving earlier stops the batch where it is: what has ended is in the journal, and the same call goes on.

    Args:
        table, job, api_key, client_options, options: as of `arun`.

    Raises:
        BatchrunError: as `arun`; where rows are waited for.
    """
    send, receive = anyio.create_memory_object_stream[Outcome](math.inf)
    with ExitStack() as stack, unwrapped():
        order = _ordered(table, job, options, api_key, client_options, stack)

        async def run_order() -> None:
            with send:
                await _run_order(order, send.send_nowait)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_order)
            with receive:
                yield receive
                tasks.cancel_scope.cancel()


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
    stack: ExitStack,
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
        output = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batchrun-"))) / "frame.csv"
    return _Order(table, made, environment, output, keep)


async def _run_order(order: _Order, on_outcome: Callable[[Outcome], None] | None) -> Plan:
    async with apinged(order.job.ping, _warn) as verdict:
        plan = make_plan(order.job, order.table, order.environment, order.output, write_output=order.keep)
        for notice in plan.notices:
            _warn(notice)
        summary = await run_batch(plan, order.environment, on_outcome=on_outcome)
        verdict.exit_code, verdict.line = summary.exit_code, summary_line(summary)
    if summary.totals.refused:
        _warn(f"{refused_text(summary.totals.refused, summary.rows)}, which is not a language model")
    if summary.stop is not None and not summary.totals.by_status.keys() & {"completed", "incomplete"}:
        raise BatchRefused(summary.stop.reason, error_type="batch_stopped")
    return plan


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

    Raises:
        BatchrunError: as `arun`.
    """

    async def main() -> pandas.DataFrame:
        return await arun(table, job, api_key=api_key, client_options=client_options, on_outcome=on_outcome, **options)

    try:
        current_token()
    except RuntimeError:
        return run_loop(main())
    return _in_thread(main())


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the fastest loop there is (uvloop; not on Windows)."""

    async def call() -> T:
        return await main

    return anyio.run(call, backend_options={"use_uvloop": os.name != "nt"})


def _in_thread(main: Coroutine[Any, Any, T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(run_loop(main))
        except BaseException as exc:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(exc)

    thread = threading.Thread(target=work, name="batchrun")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
