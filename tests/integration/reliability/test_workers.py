"""A batch with workers: the table of one process, each row asked once, whoever is killed."""

from __future__ import annotations

import random
import signal
import threading
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.integration.reliability.batches import (
    ENDED,
    Table,
    assert_each_row_once,
    command,
    write_table,
)
from tests.integration.reliability.processes import Batchrun, Served, batchrun, waited, workers_of
from tests.support.chat import chat_reply
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer

OWN = ("thread_id", "run_id", "duration_s", "completed_at")
"""Columns that differ from run to run."""


def has_ended(table: Table, rows: int) -> bool:
    """Return whether so many rows have ended in the batch's own journal."""
    return table.count(ENDED) >= rows


def is_at_work(table: Table, process: Batchrun, rows: int) -> bool:
    """Return whether so many rows have ended, and a worker is running."""
    return has_ended(table, rows) and bool(workers_of(process))


def common(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return rows without the cells that differ from run to run."""
    return [{name: value for name, value in row.items() if name not in OWN} for row in rows]


def nothing_left(table: Table) -> bool:
    return not table.journal.with_name(table.journal.name + ".d").exists()


def test_the_output_is_that_of_one_process(tmp_path: Path) -> None:
    """With and without workers the output is the same, but for ids and times; row numbers are those of the table."""
    table = write_table(tmp_path / "batch", 300)  # a shard for each worker
    other = Table(table.folder, table.rows, table.input, table.folder / "one.csv")
    with Served(tmp_path / "server", delay_s=0.0, delta_delay_s=0.0) as server:
        with batchrun(table.folder, *command(table, server.url, "--workers", "3")) as process:
            assert process.wait() == 0, process.stderr
        facts = process.facts()
        with batchrun(table.folder, *command(other, server.url)) as process:
            assert process.wait() == 0, process.stderr
        single = process.facts()
    assert common(table.answers()) == common(other.answers())
    assert [row["response"] for row in table.answers()] == [f"answer {row}" for row in range(table.rows)]
    for name in ("rows", "completed", "prompt_tokens", "completion_tokens", "this_run", "models", "finished_before"):
        assert facts[name] == single[name], name
    assert nothing_left(table)


def test_any_number_of_workers_continues_a_batch(tmp_path: Path) -> None:
    """A batch goes on with another number of workers each time, and no row is asked twice."""
    table = write_table(tmp_path / "batch", 400)
    with Served(tmp_path / "server") as server:
        for workers, rows in ((1, 50), (3, 200)):
            with batchrun(table.folder, *command(table, server.url, "--workers", str(workers))) as process:
                assert waited(process, partial(has_ended, table, rows))
                process.signal(signal.SIGTERM)
                assert process.wait() == 128 + signal.SIGTERM, process.stderr
            assert nothing_left(table)
        with batchrun(table.folder, *command(table, server.url)) as process:
            assert process.wait() == 0, process.stderr
        assert process.facts()["finished_before"] >= 200
    assert_each_row_once(table, server)


def test_killed_workers_lose_nothing(tmp_path: Path) -> None:
    """Workers that are killed again and again: another takes over, each row is asked once, and the counts are right."""
    # What is seen of a batch is up to a second old, so many rows are left after the last kill.
    table, draw = write_table(tmp_path / "batch", 500), random.Random(11)
    with Served(tmp_path / "server") as server:
        with batchrun(table.folder, *command(table, server.url, "--workers", "2", "--concurrency", "8")) as process:
            for goal in (30, 90, 150):
                assert waited(process, partial(is_at_work, table, process, goal))
                draw.choice(workers_of(process)).kill()
            assert process.wait() == 0, process.stderr
        facts = process.facts()
    assert_each_row_once(table, server)
    assert process.stderr.count("SIGKILL") == 3
    assert (facts["completed"], facts["this_run"]["completed"], facts["finished_before"]) == (500, 500, 0)
    assert facts["this_run"]["prompt_tokens"] == facts["prompt_tokens"]
    assert nothing_left(table)


def test_requests_of_a_killed_worker_are_counted(tmp_path: Path) -> None:
    """Those that it made after its last report too: they are counted from the journal of its shard."""
    table, released = write_table(tmp_path / "batch", 200), threading.Event()

    def reply(_: Request) -> Answer:
        released.wait()
        return json_answer(chat_reply("yes"))

    with ScriptedHttp(reply) as server:
        arguments = command(table, server.url, "--workers", "2", "--concurrency", "12", api="chat")
        with batchrun(table.folder, *arguments) as process:
            assert waited(process, lambda: len(server.requests) == 12)
            workers_of(process)[0].kill()
            assert waited(process, lambda: len(server.requests) == 18)
            released.set()
            assert process.wait() == 0, process.stderr
        assert process.facts()["requests"] == len(server.requests) == 206


@pytest.mark.nightly
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("seed", [1, 2])
def test_twenty_killed_workers(tmp_path: Path, seed: int) -> None:
    """20 kills of workers at any moment: the service made one answer for each row, and got no more requests than one for
    each row and one for each row in flight at a kill."""
    table, draw = write_table(tmp_path / "batch", 4_000), random.Random(seed)
    goals = sorted(draw.sample(range(100, 3_600), 20))
    with Served(tmp_path / "server") as server:
        arguments = command(table, server.url, "--workers", "2", "--concurrency", "16", api="chat")
        with batchrun(table.folder, *arguments) as process:
            for goal in goals:
                assert waited(process, partial(is_at_work, table, process, goal))
                time.sleep(draw.uniform(0.0, 0.3))
                draw.choice(workers_of(process)).kill()
            assert process.wait() == 0, process.stderr
        facts = process.facts()
    assert process.stderr.count("SIGKILL") == 20
    assert [row["response"] for row in table.answers()] == [f"answer {row}" for row in range(table.rows)]
    assert (facts["completed"], facts["this_run"]["completed"], facts["finished_before"]) == (4_000, 4_000, 0)
    assert facts["requests"] <= 4_000 + 20 * 8
    assert len(server.records().of("completion")) == 4_000
    assert nothing_left(table)


@pytest.mark.parametrize("next_workers", ["1", pytest.param("2", marks=pytest.mark.nightly)])
def test_a_killed_leader_loses_nothing(tmp_path: Path, next_workers: str) -> None:
    """If the whole batch is killed, its workers end at once, and the next run takes in what they had."""
    table = write_table(tmp_path / "batch", 240)
    with Served(tmp_path / "server") as server:
        arguments = command(table, server.url, "--concurrency", "4")
        with batchrun(table.folder, *arguments, "--workers", "2") as process:
            assert waited(process, lambda: table.count(ENDED) >= 40 and len(workers_of(process)) == 2)
            workers = workers_of(process)
            assert process.kill()
        gone, alive = psutil.wait_procs(workers, timeout=30)
        assert (len(gone), alive) == (2, [])
        assert not nothing_left(table)
        with batchrun(table.folder, *arguments, "--workers", next_workers) as process:
            assert process.wait() == 0, process.stderr
        assert process.facts()["finished_before"] >= 40
    assert_each_row_once(table, server)
    assert nothing_left(table)
