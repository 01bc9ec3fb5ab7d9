"""A cache under kills, two batches at once, and disks that are full or read-only: it costs no answer."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from tests.integration.reliability.batches import (
    Table,
    assert_each_row_once,
    command,
    kill_and_resume,
    write_table,
)
from tests.integration.reliability.processes import Served, batchrun
from tests.integration.reliability.test_disks import Disk, disk

__all__ = ["disk"]


def another(table: Table, name: str) -> Table:
    """Return the same input with another output."""
    return replace(table, output=table.folder / name)


def takes_all_from(cache: Path, table: Table, url: str) -> bool:
    """Run another batch over the table; return whether nothing was sent, and every answer is right."""
    second = another(table, "second.csv")
    with batchrun(table.folder, *command(second, url, "--cache", str(cache))) as process:
        assert process.wait() == 0, process.stderr
    found = process.facts()
    assert [row["response"] for row in second.answers()] == [f"answer {row}" for row in range(table.rows)]
    return bool(found["from_cache"] == table.rows and found["this_run"]["asked"] == 0)


def test_a_batch_with_a_cache_killed_at_any_moment(tmp_path: Path) -> None:
    """However often a batch is killed, each row is paid for once, and its cache then has the answer of every row."""
    table, cache = write_table(tmp_path / "batch", 300), tmp_path / "answers.cache"
    with Served(tmp_path / "server") as server:
        arguments = command(table, server.url, "--cache", str(cache))
        list(kill_and_resume(table, arguments, seed=7, starting=1, under_way=3, writing=1))
        assert takes_all_from(cache, table, server.url)
    assert_each_row_once(table, server)
    with closing(sqlite3.connect(cache)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_two_batches_with_one_cache_at_once(tmp_path: Path) -> None:
    """Two batches that begin at the same moment with a new cache both end well, and the cache has every answer."""
    table, cache = write_table(tmp_path / "batch", 60), tmp_path / "answers.cache"
    other = another(table, "other.csv")
    with Served(tmp_path / "server", delay_s=0.0, delta_delay_s=0.0) as server:
        options = ("--cache", str(cache))
        with (
            batchrun(tmp_path / "one", *command(table, server.url, *options)) as one,
            batchrun(tmp_path / "two", *command(other, server.url, *options)) as two,
        ):
            assert (one.wait(), two.wait()) == (0, 0), one.stderr + two.stderr
        assert [each.facts()["cache_problem"] for each in (one, two)] == [None, None]
        assert takes_all_from(cache, table, server.url)


def test_a_full_disk_under_the_cache(tmp_path: Path, disk: Callable[[str], Disk]) -> None:
    """A disk that is full costs no answer: a line counts the answers that are not stored, and the same command stores
    them once there is space."""
    small = disk("1m")
    table, cache = write_table(tmp_path / "batch", 40), small.path / "answers.cache"
    options = ("--cache", str(cache))
    with Served(tmp_path / "server", delay_s=0.0, delta_delay_s=0.0) as server:
        with batchrun(tmp_path, *command(another(table, "first.csv"), server.url, *options, "--limit", "5")) as process:
            assert process.wait() == 0, process.stderr
        small.fill(leave_kib=0)
        with batchrun(tmp_path, *command(table, server.url, *options)) as process:
            assert process.wait() == 0, process.stderr
        found = process.facts()
        assert (found["from_cache"], found["not_stored"]) == (5, 35)
        assert "full" in found["cache_problem"]
        small.make_space()
        with batchrun(tmp_path, *command(table, server.url, *options)) as process:
            assert process.wait() == 0, process.stderr
        assert takes_all_from(cache, table, server.url)


def test_a_cache_that_can_only_be_read(tmp_path: Path, disk: Callable[[str], Disk]) -> None:
    """Answers are taken from a cache on a read-only file system; the others are paid for, and a line says that nothing is
    stored."""
    small = disk("1m")
    table, cache = write_table(tmp_path / "batch", 10), small.path / "answers.cache"
    options = ("--cache", str(cache))
    with Served(tmp_path / "server", delay_s=0.0, delta_delay_s=0.0) as server:
        with batchrun(tmp_path, *command(another(table, "first.csv"), server.url, *options, "--limit", "4")) as process:
            assert process.wait() == 0, process.stderr
        small.mount("ro")
        with batchrun(tmp_path, *command(table, server.url, *options)) as process:
            assert process.wait() == 0, process.stderr
    found = process.facts()
    assert (found["completed"], found["from_cache"], found["not_stored"]) == (10, 4, 6)
    assert "none is stored" in process.stderr
