"""Journals that were truncated, emptied, or belong to another program; clocks that are set back."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from batchrun.batch.export import export_table
from batchrun.batch.lock import is_held
from batchrun.batch.plan import Plan, make_plan
from batchrun.batch.run import run_batch
from batchrun.batch.show import row_facts
from batchrun.batch.status import batch_status
from batchrun.clock import utc_now
from batchrun.errors import BatchrunError, OutputError, OutputHeld
from batchrun.job.environment import Environment
from batchrun.job.validation import make_job
from batchrun.journal import open_journal
from tests.integration.reliability.batches import ENDED, Table, command, killed_when, write_table
from tests.integration.reliability.processes import Served, batchrun
from tests.support.rows import none_strange

pytestmark = pytest.mark.anyio

ROWS = 150


def plan_of(table: Table, **options: object) -> Plan:
    job = make_job({"base_url": "http://127.0.0.1:9/v1", "api": "assistants", "model": "script", **options})
    return make_plan(job, table.input, Environment(), table.output)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served") / "server", delay_s=0.0, delta_delay_s=0.0) as started:
        yield started


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, server: Served) -> Table:
    """A batch that was killed after its output was written."""
    table = write_table(tmp_path_factory.mktemp("finished") / "batch", ROWS)
    with batchrun(table.folder, *command(table, server.url)) as process:
        killed_when(process, table.output.exists, pause_s=0.0)
    return table


@pytest.fixture(scope="module")
def under_way(tmp_path_factory: pytest.TempPathFactory, server: Served) -> Table:
    """A batch that was killed halfway, with answers in its write-ahead log."""
    table = write_table(tmp_path_factory.mktemp("under_way") / "batch", ROWS)
    with batchrun(table.folder, *command(table, server.url, "--concurrency", "5")) as process:
        assert killed_when(process, lambda: table.count(ENDED) >= 60)
    return table


def copied(table: Table, folder: Path) -> Table:
    shutil.copytree(table.folder, folder)
    return Table(folder, table.rows, folder / table.input.name, folder / table.output.name)


def cut(path: Path, length: int) -> None:
    with path.open("r+b") as file:
        file.truncate(length)


async def answers_of(table: Table) -> int:
    """Return the rows whose answer the journal still has, as three commands report them."""
    export_table(table.output, table.folder / "copy.csv")
    await row_facts(table.output, "3", Environment())
    with open_journal(
        table.journal, plan_of(table).manifest(), output=table.output, count_strange=none_strange, clock=utc_now
    ) as journal:
        completed = journal.counts().completed
    assert batch_status(table.output)["completed"] == completed
    return completed


@pytest.mark.parametrize("seed", range(12))
async def test_a_torn_journal_is_refused(finished: Table, tmp_path: Path, seed: int) -> None:
    """A journal that was truncated anywhere is refused with one line that names it; it is never read as if it were
    whole."""
    table = copied(finished, tmp_path / "batch")
    size = table.journal.stat().st_size
    cut(table.journal, random.Random(seed).randrange(1, size))
    table.journal.with_name(table.journal.name + "-wal").unlink(missing_ok=True)
    with pytest.raises(OutputError, match=r"answers\.csv\.journal: is not a readable journal") as refusal:
        await answers_of(table)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("seed", range(6))
async def test_a_torn_log_is_read_up_to_its_tear(under_way: Table, tmp_path: Path, seed: int) -> None:
    """A truncated write-ahead log loses what came after the cut, and the journal can be used."""
    table = copied(under_way, tmp_path / "batch")
    whole = await answers_of(copied(under_way, tmp_path / "whole"))
    log = table.journal.with_name(table.journal.name + "-wal")
    table.journal.with_name(table.journal.name + "-shm").unlink()
    cut(log, random.Random(seed).randrange(log.stat().st_size))
    with contextlib.suppress(OutputError):  # where not even its beginning is left
        assert 0 <= await answers_of(table) <= whole


async def test_a_torn_log_takes_no_answer_that_was_handed_out(finished: Table, tmp_path: Path) -> None:
    """Once there is an output, the journal no longer needs its write-ahead log: all answers are known whatever happens
    to the log."""
    table = copied(finished, tmp_path / "batch")
    assert table.output.exists()
    for ending in ("-wal", "-shm"):
        table.journal.with_name(table.journal.name + ending).unlink(missing_ok=True)  # gone where it had ended already
    assert await answers_of(table) == ROWS


@pytest.mark.parametrize("beside", ["its log", "an output"])
async def test_an_emptied_journal_is_not_a_new_one(
    finished: Table, under_way: Table, tmp_path: Path, beside: str
) -> None:
    """An empty journal next to an output or its log is refused: as a new journal it would cause every row to be paid
    for again."""
    table = copied(under_way if beside == "its log" else finished, tmp_path / "batch")
    cut(table.journal, 0)
    before = {path.name: path.read_bytes() for path in table.folder.iterdir()}
    with pytest.raises(OutputError, match="is empty"):
        await run_batch(plan_of(table), Environment())
    assert {path.name: path.read_bytes() for path in table.folder.iterdir()} == before


@pytest.mark.parametrize("what", ["a database", "text", "a folder"])
async def test_a_foreign_journal(tmp_path: Path, what: str) -> None:
    """Another file in the journal's place is refused with one line and left unchanged."""
    table = write_table(tmp_path, 2)
    if what == "a folder":
        table.journal.mkdir()
    elif what == "text":
        table.journal.write_text("dear diary\n" * 100)
    else:
        with contextlib.closing(sqlite3.connect(table.journal)) as db, db:
            db.execute("CREATE TABLE diary (line TEXT)")
        db.close()
    before = None if what == "a folder" else table.journal.read_bytes()
    with pytest.raises(OutputError, match=r"answers\.csv\.journal: ") as refusal:
        await run_batch(plan_of(table), Environment())
    assert "\n" not in str(refusal.value)
    if before is not None:
        assert table.journal.read_bytes() == before
    with pytest.raises(BatchrunError):
        batch_status(table.output)


async def test_looking_holds_nobody_up(tmp_path: Path, server: Served) -> None:
    """A batch that starts at the moment in which `status` checks the lock is not refused."""
    table = write_table(tmp_path, 1)
    plan = plan_of(table, base_url=server.url)
    for _ in range(3):
        await run_batch_while_looked_at(plan)


async def run_batch_while_looked_at(plan: Plan) -> None:
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            is_held(plan.paths.lock)

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for each in lookers:
        each.start()
    try:
        await run_batch(plan, Environment())
    except OutputHeld as held:
        pytest.fail(str(held))
    finally:
        stop.set()
        for each in lookers:
            each.join()


async def test_a_clock_that_is_set_back(tmp_path: Path) -> None:
    """A wall clock that goes back by a day each time it is read changes no row, no duration and no resume."""
    table = write_table(tmp_path / "batch", 20)
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)

    def backwards() -> datetime:
        nonlocal now
        now -= timedelta(days=1)
        return now

    with Served(tmp_path / "server", delay_s=0.0, delta_delay_s=0.0) as server:
        for run in range(2):
            summary = await run_batch(plan_of(table, base_url=server.url), Environment(), clock=backwards)
            assert summary.exit_code == 0
            assert summary.statistics.finished_before == run * table.rows
    assert [row["response"] for row in table.answers()] == [f"answer {row}" for row in range(table.rows)]
    assert all(0 <= float(row["duration_s"]) < 60 for row in table.answers())
