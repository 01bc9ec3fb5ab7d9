"""Shards that killed workers have left: whatever touches the batch next takes their rows in, each once."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from batchrun.batch.lock import flocked_files, held, is_held_now
from batchrun.batch.paths import paths_for
from batchrun.clock import utc_now
from batchrun.reporting.live_batch import FollowedBatch
from tests.integration.reliability.batches import Table, assert_each_row_once, command, write_table
from tests.integration.reliability.processes import Batchrun, Served, batchrun
from tests.integration.reliability.test_disks import Disk, disk

__all__ = ["disk"]

ROWS = 40
LEADER = """
import signal
import sys
from itertools import islice
from pathlib import Path

import anyio
from batchrun.batch.assembly import engine_of, limits_of, wire_of
from batchrun.batch.endpoint import endpoint_of
from batchrun.batch.lock import held
from batchrun.batch.plan import make_plan
from batchrun.batch.service_notices import ServiceNotices
from batchrun.batch.work import work_of
from batchrun.clock import utc_now
from batchrun.job.environment import Environment
from batchrun.job.validation import make_job
from batchrun.journal import Journal, open_journal
from batchrun.journal.shard_rows import gather, seed

# A leader and a worker in one process: it seeds two shards, asks the rows of the first one, and gathers some of them.
rows, output, url, api = sys.argv[1:]
environment = Environment()
job = make_job({"base_url": url, "api": api, "model": "script", "concurrency": 4})
plan = make_plan(job, rows, environment, Path(output))


async def run():
    with held(plan.paths.lock):
        main = open_journal(plan.paths.journal, plan.manifest(), count_strange=lambda journal: 0, clock=utc_now)
        one, two = (plan.paths.shards / f"0000{number}.journal" for number in (1, 2))
        seed(main, one, [str(row) for row in range(0, 20)])
        seed(main, two, [str(row) for row in range(20, 40)])
        with held(one.with_suffix(".lock")), Journal(one) as journal:
            limits = limits_of(plan, lambda wait_s, reason: None, None)
            wire = wire_of(plan, endpoint_of(job, url, environment), limits)
            ended = 0

            def on_outcome(outcome):
                nonlocal ended
                ended += 1
                if ended == 6:
                    gather(main, one)
                if ended == 12:
                    print("12 rows have ended", file=sys.stderr, flush=True)
                    signal.pause()

            engine = engine_of(plan, journal, wire, limits, utc_now, on_outcome, ServiceNotices())
            await engine.run(islice(work_of(plan, journal, utc_now), 20))


anyio.run(run)
"""


@contextmanager
def left_shards(tmp_path: Path, folder: Path | None = None, api: str = "assistants") -> Iterator[tuple[Table, Served]]:
    """A batch whose only process was killed when 12 or some more of its 40 rows had ended; 6 or some more of them had been
    gathered."""
    table = write_table(folder or tmp_path / "batch", ROWS)
    with Served(tmp_path / "server") as server:
        arguments = (table.input, table.output, server.url, api)
        with batchrun(table.folder, *arguments, program=LEADER) as process:
            process.said(1)
            assert process.kill()
        yield table, server


def ended_in(journal: Path) -> int:
    with closing(sqlite3.connect(journal)) as db:
        return int(db.execute("SELECT count(*) FROM outcomes").fetchone()[0])


def run_command(table: Table, *arguments: str | Path, exit_code: int = 0) -> Batchrun:
    with batchrun(table.folder, *arguments) as process:
        assert process.wait() == exit_code, process.stderr
    return process


def status(table: Table) -> dict[str, Any]:
    return dict(json.loads(run_command(table, "status", table.output, "--json").stdout))


def test_an_ordinary_run_asks_no_row_again(tmp_path: Path) -> None:
    """A run without workers takes the rows in, follows those in flight, and asks the others: one run per row."""
    with left_shards(tmp_path) as (table, server):
        run_command(table, *command(table, server.url))
        assert not paths_for(table.output).shards.exists()
    assert_each_row_once(table, server)


def test_other_files_in_the_folder_of_the_shards_stay(tmp_path: Path) -> None:
    """A file that no worker has written is kept, and `list` does not take its folder for answers that are not counted."""
    with left_shards(tmp_path) as (table, _):
        folder = paths_for(table.output).shards
        (folder / "mine.txt").write_text("mine")
        status(table)
        assert [path.name for path in folder.iterdir()] == ["mine.txt"]
        (found,) = json.loads(run_command(table, "list", "-r", table.folder, "--json").stdout)
        assert "problem" not in found


@pytest.mark.parametrize("arguments", [("status",), ("export",), ("costs",), ("show", "0")])
def test_every_command_reads_all_rows(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A command that reads the batch shows the rows of its shards, which are then in its journal."""
    with left_shards(tmp_path) as (table, _):
        paths = paths_for(table.output)
        ended = ended_in(paths.shards / "00001.journal")
        assert ended_in(paths.journal) < 12 <= ended
        name, *more = arguments
        run_command(table, name, table.output, *more)
        assert not paths.shards.exists()
        assert ended_in(paths.journal) == ended
        facts = status(table)
        assert (facts["completed"], facts["running"]) == (ended, False)
        assert facts["in_flight"] + facts["pending"] == ROWS - ended
        if name == "export":
            assert sum(row["status"] == "completed" for row in table.answers()) == ended


def test_a_listing_says_what_it_leaves_out(tmp_path: Path) -> None:
    """`list` writes nothing: it names the folder and the command that takes the rows in, and counts no shard as a batch."""
    with left_shards(tmp_path) as (table, _):
        process = run_command(table, "list", "-r", table.folder, "--json")
        (found,) = json.loads(process.stdout)
        assert found["problem"] == (
            f"{paths_for(table.output).shards}: workers have left answers here that are not counted yet; "
            f"batchrun status {table.output} takes them in"
        )
        assert paths_for(table.output).shards.exists()


def test_answers_that_cannot_be_taken_in_are_not_left_out_in_silence(
    tmp_path: Path, disk: Callable[[str], Disk]
) -> None:
    """On a read-only file system one line says how many answers are in the shards, and what takes them in."""
    small = disk("8m")
    with left_shards(tmp_path, small.path / "batch") as (table, server):
        paths = paths_for(table.output)
        left = ended_in(paths.shards / "00001.journal") - ended_in(paths.journal)
        small.mount("ro")
        with batchrun(tmp_path, "status", table.output) as process:
            assert process.wait() == 2
        assert process.stderr.splitlines() == [
            f"batchrun: {paths.shards}: the answers of {left} rows are still here, and this place "
            f"cannot be written; batchrun status {table.output}, or the command of the batch, takes them in where it can"
        ]
        small.mount("rw")
        run_command(table, *command(table, server.url))
    assert_each_row_once(table, server)


def test_a_running_batch_is_left_to_its_leader(tmp_path: Path) -> None:
    """While a process holds the lock of the output, its journal is read as it is."""
    with left_shards(tmp_path) as (table, _):
        with held(paths_for(table.output).lock):
            facts = status(table)
        assert (facts["completed"], facts["running"]) == (ended_in(table.journal), True)
        assert paths_for(table.output).shards.exists()


def test_a_page_follows_a_leader_that_dies(tmp_path: Path) -> None:
    """A page that was opened while the batch ran shows the rows of its shards as soon as nobody else will gather them."""

    def ended(batch: FollowedBatch) -> int:
        batch.look()
        facts = batch.news(0, 0)["facts"]
        assert facts is not None
        return facts["headline"]["by_status"]["completed"]

    with left_shards(tmp_path) as (table, _):
        paths = paths_for(table.output)
        gathered, all_ended = ended_in(paths.journal), ended_in(paths.shards / "00001.journal")
        with ExitStack() as leader:
            leader.enter_context(held(paths.lock))
            batch = FollowedBatch(table.output, utc_now)
            assert ended(batch) == gathered
        assert ended(batch) == all_ended
        batch.close()


HOLDER = """
import signal
import sys
from pathlib import Path
from batchrun.batch.lock import held
with held(Path(sys.argv[1])):
    print("held", file=sys.stderr, flush=True)
    signal.pause()
"""


def test_a_worker_that_is_ending_is_waited_for(tmp_path: Path) -> None:
    """A worker of a killed leader may write until it has ended: nothing of its shard is taken in before."""
    with left_shards(tmp_path) as (table, _):
        paths = paths_for(table.output)
        gathered, ended = ended_in(paths.journal), ended_in(paths.shards / "00001.journal")
        with batchrun(tmp_path / "worker", paths.shards / "00001.lock", program=HOLDER) as worker:
            worker.said(1)
            with batchrun(table.folder, "status", table.output, "--json") as process:
                while not is_held_now(paths.lock, flocked_files()):
                    assert process.running
                time.sleep(0.5)
                assert process.running
                assert ended_in(paths.journal) == gathered
                worker.kill()
                assert process.wait() == 0, process.stderr
        assert json.loads(process.stdout)["completed"] == ended


@pytest.mark.nightly
def test_a_worker_that_does_not_end_is_named(tmp_path: Path) -> None:
    """After ten seconds the command says which lock a worker holds, and reads nothing."""
    with left_shards(tmp_path) as (table, server):
        shards = paths_for(table.output).shards
        with batchrun(tmp_path / "worker", shards / "00001.lock", program=HOLDER) as worker:
            worker.said(1)
            for arguments in (("status", table.output), command(table, server.url)):
                process = run_command(table, *arguments, exit_code=6)
                assert process.stderr.count("\n") == 1
                assert f"{shards}: a worker of this batch still writes there (lock: 00001.lock)" in process.stderr


def test_whoever_takes_rows_in_may_be_killed(tmp_path: Path) -> None:
    """Killed at any moment while they take rows in, commands count no row twice and lose none."""
    with left_shards(tmp_path) as (table, server):
        paths = paths_for(table.output)
        for _ in range(5):
            with batchrun(table.folder, "status", table.output) as process:
                while process.running and not is_held_now(paths.lock, flocked_files()):
                    pass
                process.kill()
        run_command(table, *command(table, server.url))
        assert not paths.shards.exists()
    assert_each_row_once(table, server)


def test_fresh_sets_shards_aside_with_their_journal(tmp_path: Path) -> None:
    """A batch that starts over asks all rows; the old shards stay with the old journal, whose clean-up takes them in."""
    with left_shards(tmp_path) as (table, server):
        gathered, ended = ended_in(table.journal), ended_in(paths_for(table.output).shards / "00001.journal")
        run_command(table, *command(table, server.url, "--fresh"))
        assert [row["response"] for row in table.answers()] == [f"answer {row}" for row in range(ROWS)]
        (shards,) = table.folder.glob("answers.csv.journal.*.d")
        old = shards.with_name(shards.name.removesuffix(".d"))
        assert ended_in(old) == gathered
        run_command(table, "cleanup", old, "--dry-run")
        assert ended_in(old) == ended
        assert not shards.exists()


def test_shards_without_their_journal_are_evidence(tmp_path: Path) -> None:
    """If the journal is gone, the batch is not begun anew beside the answers of its workers."""
    with left_shards(tmp_path) as (table, server):
        for path in table.folder.glob("answers.csv.journal*"):
            if path.is_file():
                path.unlink()
        process = run_command(table, *command(table, server.url), exit_code=2)
        assert "is gone, although the answers in answers.csv.journal.d show that the batch had begun" in process.stderr
        assert (paths_for(table.output).shards / "00001.journal").exists()
        process = run_command(table, "status", table.output, exit_code=2)
        assert (
            "does not exist, and the answers of workers in answers.csv.journal.d cannot be taken in" in process.stderr
        )
