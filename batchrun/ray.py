"""Batches on a Ray cluster, and the rows of a Ray Data pipeline, for `ds.map_batches(batchrun.ray.Ask, …)`."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Unpack

import anyio
from anyio.from_thread import BlockingPortal

from batchrun.api.call import Call, resolve
from batchrun.api.job_options import JobOptions
from batchrun.api.parameters import CallersWords, in_python
from batchrun.api.run import run as run_batch_of
from batchrun.batch.endpoint import endpoint_for
from batchrun.batch.plan import Plan, make_plan
from batchrun.batch.results import result_cells
from batchrun.batch.shard_plan import ShardPlan
from batchrun.batch.shard_worker import serve
from batchrun.batch.work import count_changed_rows
from batchrun.clock import utc_now
from batchrun.errors import BatchrunError, InputError
from batchrun.job.environment import ApiKey
from batchrun.job.options import Job, changed_options
from batchrun.job.validation import make_job
from batchrun.journal import Journal, open_journal
from batchrun.records import Cells, JsonDict, Settings
from batchrun.scale.messages import Begin, Broken, Shard, ShardEnded, WorkerReport
from batchrun.scale.ray_governor import SharedLimits, join_governor
from batchrun.scale.shards import write_rows

if TYPE_CHECKING:
    from batchrun.api.data import Data

__all__ = ["Ask", "run"]

_REFUSED: Final = {
    "output": "the answers are columns of the batch",
    "journal": "no journal is kept",
    "workers": "concurrency=N of map_batches sets their number",
    "ray": "the rows are on Ray already",
    "cache": "its file would have to be on all nodes",
    "fresh": "no journal is kept",
    "ping": "nobody knows which rows are the last",
    "sample": "each worker knows only the rows of its batch; use ds.random_sample",
    "limit": "each worker knows only the rows of its batch; use ds.limit",
}
"""Options without an effect, or with a wrong one, and the reason."""


def run(data: Data, job: Job | None = None, **options: Any) -> Any:
    """Run all rows of a table by workers on a Ray cluster: `batchrun.run` with `ray="auto"`.

    Args:
        data, job, options: as for `batchrun.run`; `workers` is their number. `ray` is the address of the cluster, or
            `"local"` to start a Ray on this machine. A connection to a cluster that the program has made already is
            used, and kept.
    """
    with CallersWords():
        return run_batch_of(data, job, **{"ray": "auto", **options})


class Ask:
    """Asks each row of the batches of a Ray Data pipeline. Give the class itself to `map_batches`.

    No journal is kept: if Ray repeats a batch because a worker or a node was lost, its rows are asked and paid for
    again. `batchrun run` with an output is for tables where that matters.

    A row that fails, or is not asked because the batch has to stop (the key is refused, the budget is used up), is a
    row with a `status` and an `error`, never an exception.

    All workers of a pipeline together keep `rpm`, `tpm` and `budget`; `concurrency` is of each worker.

    Mutable state: `_portal`, to the event loop of this worker, which runs in a thread, and `_tasks` there; `_plan`, of
    the first batch, None before; `_number` of the newest batch; `_ended`, number of a batch in work → set when it has
    ended; `_stop`, why a batch had to stop; `_failure`, what ended the worker; `_warned`, kinds of notices.
    """

    def __init__(
        self,
        job: Job | None = None,
        *,
        governor: str = "batchrun",
        api_key: ApiKey | None = None,
        client_options: Settings | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        """
        Args:
            job, api_key, client_options, options: as for `batchrun.run`; the environment is that of the node.
            governor: the name under which the steps of a pipeline share their limits, which have to be equal.

        Raises:
            InputError: an option is invalid, or cannot be used here.
        """
        with CallersWords():
            settings = {**(changed_options(job) if job is not None else {}), **options}
            for name, reason in _REFUSED.items():
                if name in settings:
                    raise InputError(f"{name}: cannot be used with batchrun.ray.Ask: {reason}")
            made = make_job({**settings, "workers": 2})
            self._arguments = (job, options, api_key, client_options)
            limits = SharedLimits(made.rpm, made.tpm, made.budget)
            self._governor = join_governor(governor, limits)
        self._name = uuid.uuid4().hex
        self._folder = tempfile.mkdtemp(prefix="batchrun-ray-")
        self._plan: Plan | None = None
        self._number = 0
        self._ended: dict[int, anyio.Event] = {}
        self._stop = ""
        self._failure: Exception | None = None
        self._warned: set[str] = set()
        is_ready = threading.Event()
        threading.Thread(target=anyio.run, args=(self._live, is_ready), name="batchrun", daemon=True).start()
        is_ready.wait()

    async def _live(self, is_ready: threading.Event) -> None:
        async with (
            AsyncExitStack() as self._stack,
            anyio.create_task_group() as self._tasks,
            BlockingPortal() as self._portal,
        ):
            is_ready.set()
            await self._portal.sleep_until_stopped()

    def __call__(self, batch: Any) -> Any:
        """Return the rows of a batch, a pandas frame or an Arrow table, with their answers in further columns."""
        if isinstance(batch, Mapping):
            raise InputError("map_batches: give batch_format='pandas' or batch_format='pyarrow', which batchrun takes")
        with CallersWords():
            job, options, api_key, client_options = self._arguments
            call = resolve(batch, job, {**options}, api_key, client_options, False)
            try:
                return self._portal.call(self._answers, call)
            finally:
                shutil.rmtree(call.output.parent, ignore_errors=True)

    async def _answers(self, call: Call) -> Any:
        plan = make_plan(call.job, call.data.table, call.environment, call.output, write_output=False)
        if self._plan is None:
            await self._begin(plan, call)
        elif plan.source.columns != self._plan.source.columns:
            raise InputError(
                f"map_batches: the columns of this batch, {', '.join(plan.source.columns)}, are not those of the first "
                f"one, {', '.join(self._plan.source.columns)}"
            )
        shard = _shard(plan, self._number + 1)
        self._number += 1
        ended = self._ended[shard.number] = anyio.Event()
        await self._shards.send(shard)
        await ended.wait()
        if self._failure is not None:
            raise self._failure
        with Journal(plan.paths.journal, read_only=True) as journal:
            added, write_options = plan.added.with_found(journal, plan.write_options)
            cells = result_cells(plan.source, plan.prompter, journal, added, plan.selection)
            return call.data.to_answers(plan.source, _explained(cells, in_python(self._stop)), write_options)

    # -- the worker, and what it takes for its leader -------------------------------------------------------------

    async def _begin(self, plan: Plan, call: Call) -> None:
        call.caller.announce(plan, is_chosen=bool(call.job.model or call.job.script))
        self._plan = plan
        in_folder = replace(plan, paths=plan.paths.with_store(Path(self._folder) / "store"))
        endpoint = endpoint_for(in_folder, call.environment, self._stack)
        self._shards, self._messages = anyio.create_memory_object_stream[object](max_buffer_size=float("inf"))
        await self._shards.send(Begin(ShardPlan.of(plan, plan.job.concurrency), endpoint, logging.CRITICAL))
        self._tasks.start_soon(self._serve)

    async def _serve(self) -> None:
        try:
            await serve(self)
        except Exception as exc:  # noqa: BLE001 - raised in the batches that wait
            self._failure = exc
        self._failure = self._failure or BatchrunError("the worker has ended")
        for ended in self._ended.values():
            ended.set()

    async def receive(self) -> object:
        """See `batchrun.scale.links.Port`."""
        return await self._messages.receive()

    async def send(self, message: object) -> None:
        """See `batchrun.scale.links.Port`."""
        if isinstance(message, WorkerReport):
            if message.stop is not None:
                self._stop = message.stop.reason
            for kind in message.notices.keys() - self._warned:
                self._warned.add(kind)
                for line in message.notices[kind]:
                    warnings.warn(in_python(line), RuntimeWarning, stacklevel=2)
            await self._shards.send(await self._governor.answer.remote(self._name, message.asks))
        elif isinstance(message, ShardEnded):
            self._ended.pop(message.number).set()
        elif isinstance(message, Broken):
            self._failure = BatchrunError(message.message)


def _shard(plan: Plan, number: int) -> Shard:
    """Write the rows and the journal of a batch for the worker."""
    rows = list(plan.asked.rows())
    shard = Shard(number, plan.paths.journal, plan.paths.journal.with_suffix(".rows"), len(rows))
    write_rows(shard.rows, rows)
    open_journal(
        plan.paths.journal,
        plan.manifest(),
        output=plan.paths.output,
        fresh=False,
        accept_changes=False,
        count_strange=partial(count_changed_rows, plan),
        clock=utc_now,
    ).close()
    return shard


def _explained(cells: Iterator[JsonDict], reason: str) -> Iterator[Cells]:
    """Yield the cells of each row; one that was not asked has the reason as its error."""
    for each in cells:
        if each["status"] == "pending":
            each |= {"error_type": "batch_stopped", "error": reason}
        yield each
