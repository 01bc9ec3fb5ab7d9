"""The Python call: a table in, a DataFrame of answers out."""

from __future__ import annotations

import os
import tempfile
import threading
import warnings
from collections.abc import Coroutine, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from anyio.lowlevel import current_token

from batchrun.batch import run_batch
from batchrun.clock import utc_now
from batchrun.display import summary_line
from batchrun.errors import BatchRefused
from batchrun.job import ApiKey, Environment, make_job
from batchrun.journal import Journal
from batchrun.ping import apinged
from batchrun.plan import dated, default_output, make_plan
from batchrun.results import result_cells
from batchrun.tables import to_frame

if TYPE_CHECKING:
    import pandas

__all__ = ["arun", "run"]

T = TypeVar("T")


async def arun(
    table: pandas.DataFrame | str | Path,
    *,
    api_key: ApiKey | None = None,
    client_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> pandas.DataFrame:
    """Ask every row of a table; returns its columns and the outcomes, one row per input row, in order.

    Args:
        table: a DataFrame, or the path of a CSV, TSV, JSON Lines or Parquet file.
        api_key: of the service, or an async function that makes one whenever it is needed. Default: the environment's
            OPENAI_API_KEY.
        client_options: further arguments of the SDK's client, such as `{"workload_identity": ...}`.
        options: those of the command line, by their names with underscores (`batchrun.job.Job`). A path writes its
            output as the command line does. A DataFrame keeps no files, unless `output=` names one: only
            then can the same call resume.

    Raises:
        InputError: table, template or option cannot be used.
        BatchRefused: the service refused (key, quota, model) and no row has an answer.
        OutputError, OutputHeld, JournalMismatch: as for the command line.
    """
    environment = Environment.read(os.environ)
    if api_key is not None:
        environment = environment.with_key(api_key)
    if client_options is not None:
        environment = replace(environment, client_options=client_options)
    job = make_job(options)
    with ExitStack() as stack:
        keep = job.output is not None or isinstance(table, (str, Path))
        if keep:
            output = dated(job.output or default_output(str(table)), utc_now)
        else:
            output = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batchrun-"))) / "frame.csv"
        async with apinged(job.ping, _warn) as verdict:
            plan = make_plan(job, table, environment, output, write_output=keep)
            summary = await run_batch(plan, environment)
            verdict.exit_code, verdict.line = summary.exit_code, summary_line(summary)
        if summary.stop is not None and not summary.totals.by_status.keys() & {"completed", "incomplete"}:
            raise BatchRefused(summary.stop.reason, error_type="batch_stopped")
        with Journal(plan.paths.journal, read_only=True) as journal:
            cells = result_cells(plan.source, plan.prompter, journal, plan.added)
            return to_frame(plan.source, cells, plan.write_options)


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def run(
    table: pandas.DataFrame | str | Path,
    *,
    api_key: ApiKey | None = None,
    client_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> pandas.DataFrame:
    """`arun` for code that is not async. Where an event loop already runs (a notebook), a thread of its own is used.

    Raises:
        BatchrunError: as `arun`.
    """

    async def main() -> pandas.DataFrame:
        return await arun(table, api_key=api_key, client_options=client_options, **options)

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
