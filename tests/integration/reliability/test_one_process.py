"""One process writes an output, whatever name is used for it, whatever happens to its lock, and whoever was killed
before."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrun.batch.lock import is_held
from batchrun.batch.paths import paths_for
from batchrun.batch.status import batch_status
from batchrun.journal import Journal, open_journal
from batchrun.journal.open import _finish_log
from batchrun.tables.atomic import replacing
from tests.integration.reliability.batches import (
    BEGUN,
    ENDED,
    Table,
    assert_each_row_once,
    command,
    killed_when,
    write_table,
)
from tests.integration.reliability.processes import Batchrun, Served, batchrun
from tests.support.command import batchrun as called
from tests.support.rows import none_strange, noon

ROWS = 40


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path / "served" / "server", delay_s=0.3, delta_delay_s=0.0) as started:
        yield started


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return write_table(tmp_path / "batch", ROWS)


@contextlib.contextmanager
def running(table: Table, server: Served) -> Iterator[Batchrun]:
    """A batch that has begun and is not near its end."""
    with batchrun(table.folder, *command(table, server.url, "--concurrency", "2")) as process:
        while process.running and not table.count(BEGUN):
            pass
        assert process.running, process.stderr
        yield process


def second(table: Table, server: Served, output: str | Path, folder: str = "second") -> tuple[int, str]:
    """Run another command on the same output; return its exit code and its messages."""
    arguments = [output if each == table.output else each for each in command(table, server.url)]
    with batchrun(table.folder.parent / folder, *arguments) as process:
        return process.wait(), process.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a deleted lock is a lost one")
def test_a_deleted_lock(table: Table, server: Served) -> None:
    """After its lock file was deleted, a running batch is still the only one; `status` reports that it runs."""
    lock = paths_for(table.output).lock
    with running(table, server) as first:
        for _ in range(2):
            lock.unlink()
            code, said = second(table, server, table.output)
            assert (code, "another batch is writing this output" in said) == (6, True), said
            assert batch_status(table.output)["running"]
        code, said = second(table, server, table.output, "fresh")
        assert code == 6, said
        assert first.wait() == 0, first.stderr
    assert not is_held(lock)
    code, said = second(table, server, table.output)
    assert code == 0, said
    server.__exit__(None, None, None)
    assert_each_row_once(table, server)


@pytest.mark.parametrize("name", ["detour", "link to the file", "link to the folder", "link to a link"])
def test_two_names_of_one_output(table: Table, server: Served, name: str) -> None:
    """Whichever path names an output, it has one lock and one journal."""
    link = table.folder.parent / "link"
    if name == "detour":
        named = table.folder / ".." / table.folder.name / "." / table.output.name
    elif name == "link to the folder":
        link.symlink_to(table.folder)
        named = link / table.output.name
    else:
        link.mkdir()
        named = link / "other.csv"
        named.symlink_to(table.output)
        if name == "link to a link":
            named = link / "third.csv"
            named.symlink_to(link / "other.csv")
    with running(table, server):
        code, said = second(table, server, named)
        assert (code, "another batch is writing this output" in said) == (6, True), said
        assert batch_status(named)["running"]
    code, said = second(table, server, named)
    assert code == 0, said
    assert os.path.lexists(named)
    assert named.is_symlink() == (name.startswith("link to") and name != "link to the folder")
    assert {path.name for path in link.glob("*")} <= {path.name for path in table.folder.glob("*")} | {
        "other.csv",
        "third.csv",
    }
    server.__exit__(None, None, None)
    assert_each_row_once(table, server)


def test_an_earlier_journal_beside_a_link(tmp_path: Path) -> None:
    """Earlier versions put the journal next to the link: the batch resumes from it."""
    (tmp_path / "real").mkdir()
    link = tmp_path / "a.csv"
    link.symlink_to(tmp_path / "real" / "a.csv")
    assert paths_for(link).journal == tmp_path / "real" / "a.csv.journal"
    (tmp_path / "a.csv.journal").touch()
    assert paths_for(link).journal == tmp_path / "a.csv.journal"
    assert paths_for(link).lock == tmp_path / "a.csv.lock"
    (tmp_path / "real" / "a.csv.journal").touch()
    assert paths_for(link).journal == tmp_path / "real" / "a.csv.journal"


# -- --fresh, killed between its steps --------------------------------------------------------------------------------


@pytest.fixture
def under_way(table: Table, server: Served) -> Table:
    """A batch that was killed halfway, with answers in its write-ahead log."""
    with batchrun(table.folder, *command(table, server.url, "--concurrency", "20")) as process:
        assert killed_when(process, lambda: table.count(ENDED) >= 5)
    assert table.journal.with_name(table.journal.name + "-wal").stat().st_size
    return table


def answers_beside(table: Table) -> list[int]:
    """Return the answers in each journal of the folder, including those that were set aside."""
    found = []
    for path in sorted(table.folder.glob(f"{table.journal.name}*")):
        if not path.name.endswith(("-wal", "-shm")):
            with Journal(path) as journal:
                found.append(journal.counts().completed)
    return found


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_fresh_killed_between_its_steps(under_way: Table, server: Served, steps: int) -> None:
    """--fresh finishes the log, renames one file, and begins: wherever it is killed, every answer is in one journal."""
    table = under_way
    answered = table.count(ENDED)
    aside = table.journal.with_name(table.journal.name + ".20261123T120000Z")
    if steps >= 1:
        _finish_log(table.journal)
        assert not table.journal.with_name(table.journal.name + "-wal").exists()
    if steps >= 2:
        table.journal.rename(aside)
    code, said = second(table, server, table.output)
    assert code == 0, said
    assert answers_beside(table) == ([ROWS] if steps < 2 else [ROWS, answered])


def test_fresh_killed_by_a_signal(under_way: Table, server: Served) -> None:
    """Killed at any moment of `--fresh`, no answer of the old batch is lost, and none gets into the new batch."""
    table = under_way
    answered = table.count(ENDED)
    arguments = [*command(table, server.url), "--fresh"]
    for _ in range(4):
        with batchrun(table.folder, *arguments) as process:
            killed_when(process, lambda: len(list(table.folder.glob(f"{table.journal.name}.2*"))) > 0, pause_s=0.0)
        counts = answers_beside(table)
        assert answered in counts
        assert sum(count for count in counts if count != answered) < ROWS
    code, said = second(table, server, table.output)
    assert code == 0, said


@pytest.mark.parametrize("cut", ["-wal", "-shm", ""])
def test_fresh_with_a_journal_that_cannot_be_opened(tmp_path: Path, cut: str) -> None:
    """Its parts are set aside one by one, the log first: wherever that stops, no new journal meets an old log."""
    path = tmp_path / "a.csv.journal"
    path.write_bytes(b"no journal " * 200)
    log = path.with_name(path.name + "-wal")
    log.write_bytes(b"an old log")
    path.with_name(path.name + "-shm").write_bytes(b"an index")
    for ending in ("-wal", "-shm", ""):
        part = path.with_name(path.name + ending)
        part.rename(tmp_path / f"{path.name}.20261123T115900Z{ending}")
        if ending == cut:
            break
    manifest = {"settings": {}, "input_fingerprint": "f", "rows": 1}
    with open_journal(path, manifest, fresh=True, count_strange=none_strange, clock=noon) as journal:
        assert journal.is_empty()
    kept = b"".join(each.read_bytes() for each in sorted(tmp_path.glob("*.journal.2*")))
    assert b"no journal" in kept
    assert b"an old log" in kept


# -- what killed writers leave over -----------------------------------------------------------------------------------

WRITERS = {
    "run": ("run", "q.csv", "-o", "made.csv", "--script", "s.toml"),
    "export": ("export", "a.csv", "-o", "made.csv"),
    "report": ("report", "a.csv", "-o", "made.html"),
    "score": ("score", "a.csv", "--scorer", "exact", "--target", "target", "-o", "made.csv"),
    "convert": ("convert", "a.csv", "made.jsonl"),
}


def _killed_while_it_writes(path: Path) -> None:
    with replacing(path) as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("writer", WRITERS)
def test_what_a_killed_writer_left_is_removed(tmp_path: Path, writer: str) -> None:
    """Every command that writes a file removes the temporary file of an earlier one that was killed."""
    (tmp_path / "q.csv").write_text("question,target\n1 + 1,2\n")
    (tmp_path / "s.toml").write_text('[default]\nreply = "2"\n')
    called(tmp_path, "run", "q.csv", "-o", "a.csv", "--script", "s.toml")
    arguments = WRITERS[writer]
    made = tmp_path / next(each for each in arguments if each.startswith("made."))
    process = multiprocessing.get_context("forkserver").Process(target=_killed_while_it_writes, args=(made,))
    process.start()
    process.join()
    assert list(tmp_path.glob(".batchrun-*"))
    result = called(tmp_path, *arguments)
    assert result.returncode == 0, result.stderr
    assert made.exists()
    assert not list(tmp_path.glob(".batchrun-*"))
