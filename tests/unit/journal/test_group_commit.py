"""Group commit: what shares a transaction, who waits for it, and what a failure leaves."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import anyio
import pytest

from batchrun.errors import OutputError
from batchrun.journal import Journal
from batchrun.journal.group_commit import GROUP_S, GroupCommit
from batchrun.records import Prompt, Turn
from tests.support.rows import NOON, attempt, completed, prompt

STOPPED: Callable[[], float] = lambda: 0.0  # noqa: E731
"""A clock under which no group is old, however busy this machine is."""

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


@pytest.fixture
def committed(journal: Journal, path: Path) -> Iterator[Callable[[], int]]:
    """Returns the number of outcomes that another connection sees in the file."""
    with closing(sqlite3.connect(path)) as db:
        yield lambda: int(db.execute("SELECT count(*) FROM outcomes").fetchone()[0])


async def write(journal: Journal, row: int) -> None:
    journal.finish(completed(row), "f")
    await journal.committed()


async def test_the_writes_of_a_turn_are_committed_together(journal: Journal, committed: Callable[[], int]) -> None:
    """Nothing is in the file before the end of the turn; then all of it is, and `committed` returns."""
    seen = []

    async def one(row: int) -> None:
        journal.finish(completed(row), "f")
        seen.append(committed())
        await journal.committed()
        seen.append(committed())

    with journal.grouped(STOPPED):
        async with anyio.create_task_group() as tasks:
            for row in range(5):
                tasks.start_soon(one, row)
    assert seen == [0] * 5 + [5] * 5


async def test_first_outcomes_of_a_turn_share_a_statement(journal: Journal, committed: Callable[[], int]) -> None:
    """Outcomes of rows without an earlier one are seen by every read at once, and committed with their turn."""
    with journal.grouped(STOPPED):
        for row in range(3):
            journal.finish(completed(row), "f", is_first=True)
        assert committed() == 0
        assert journal.outcome("1") is not None
        journal.finish(completed(3), "f", is_first=True)
        await journal.committed()
        assert committed() == 4


async def test_a_first_outcome_is_never_a_second_one(journal: Journal, committed: Callable[[], int]) -> None:
    """A row that has an outcome already is an error, whose group is not committed: nothing is dropped in silence."""
    journal.finish(completed(0), "f")

    async def write_both() -> None:
        with journal.grouped(STOPPED):
            journal.finish(completed(1), "f", is_first=True)
            journal.finish(completed(0), "f", is_first=True)
            await journal.committed()

    with pytest.raises(OutputError):
        await write_both()
    assert committed() == 1


async def test_without_a_group_a_write_is_committed_at_once(journal: Journal, committed: Callable[[], int]) -> None:
    """Outside of `grouped` each write is a transaction, even while an event loop runs."""
    journal.finish(completed(0), "f")
    assert committed() == 1
    await journal.committed()
    journal.flush()


async def test_the_end_of_the_group_commits(journal: Journal, committed: Callable[[], int]) -> None:
    """What is not committed when the context ends is committed then, whatever ended it."""

    def fail() -> None:
        with journal.grouped(STOPPED):
            journal.finish(completed(0), "f")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert committed() == 1
    await anyio.lowlevel.checkpoint()  # the callback of the turn finds nothing to commit
    journal.finish(completed(1), "f")
    assert committed() == 2


async def test_a_cancelled_task_takes_no_other_with_it(journal: Journal, committed: Callable[[], int]) -> None:
    """A task that is cancelled while it waits leaves its write in the group, and the others waiting."""
    with journal.grouped(STOPPED):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write, journal, 0)
            async with anyio.create_task_group() as inner:
                inner.start_soon(write, journal, 1)
                inner.cancel_scope.cancel()
    assert committed() == 2


async def test_a_large_log_is_used_again_within_a_turn(journal: Journal, committed: Callable[[], int]) -> None:
    """The open group is committed first, since SQLite moves no log inside a transaction."""
    with journal.grouped(STOPPED):
        journal.finish(completed(0), "f")
        journal.reuse_log()
        assert committed() == 1


async def test_a_block_of_writes_is_all_or_none(journal: Journal, committed: Callable[[], int]) -> None:
    """A number that SQLite cannot hold undoes the block that it is in, and no other write of the group."""

    def write_block() -> None:
        with journal._db.transaction():
            journal.finish(completed(1), "f")
            journal.finish(completed(2, attempts=2**70), "f")

    with journal.grouped(STOPPED):
        journal.finish(completed(0), "f")
        with pytest.raises(OverflowError):
            write_block()
        journal.finish(completed(3), "f")
    assert committed() == 2
    assert journal.outcome("1") is None


def _fill(journal: Journal) -> None:
    pages = journal._db.one("PRAGMA page_count")[0]
    journal._db.one(f"PRAGMA max_page_count={pages}")  # SQLite then fails as on a full disk


def _make_space(journal: Journal) -> None:
    journal._db.one("PRAGMA max_page_count=1000000")


def _protect(journal: Journal) -> None:
    journal._db.one("PRAGMA query_only=ON")


def _unprotect(journal: Journal) -> None:
    journal._db.one("PRAGMA query_only=OFF")


@pytest.mark.parametrize(
    ("damage", "repair", "message"),
    [(_fill, _make_space, "the disk is full"), (_protect, _unprotect, "cannot be written")],
)
async def test_a_failure_reaches_all_who_wait(
    journal: Journal,
    committed: Callable[[], int],
    damage: Callable[[Journal], None],
    repair: Callable[[Journal], None],
    message: str,
) -> None:
    """If a group cannot be committed, everybody who wrote to it gets the error, and no later write is accepted: it might
    rely on a lost one."""
    failures = []

    async def one(row: int) -> None:
        try:
            await write(journal, row)
        except OutputError as exc:
            failures.append(str(exc))

    async def run() -> None:
        with journal.grouped(STOPPED):
            await write(journal, 0)
            damage(journal)
            async with anyio.create_task_group() as tasks:
                for row in range(1, 200):
                    tasks.start_soon(one, row)
            assert len(failures) == 199
            repair(journal)
            await one(200)
            assert len(failures) == 200

    with pytest.raises(OutputError, match=message):
        await run()
    assert committed() == 1
    journal.finish(completed(1), "f")
    assert committed() == 2


async def test_a_journal_that_another_program_has_locked(path: Path) -> None:
    """A lock that outlasts the patience ends the group with a line that says what to do; a shorter one is waited for."""
    with Journal(path, patience_s=0.05) as journal, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with (
            pytest.raises(OutputError, match="another program has locked the journal"),
            journal.grouped(STOPPED),
        ):
            await write(journal, 0)
        other.execute("ROLLBACK")
    with Journal(path) as journal, closing(sqlite3.connect(path, check_same_thread=False)) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.05, other.execute, ["ROLLBACK"])
        release.start()
        with journal.grouped(STOPPED):
            await write(journal, 0)
        release.join()
        assert journal.counts().completed == 1


async def test_an_old_group_is_committed_by_the_next_write(path: Path) -> None:
    """In a long turn, a group is committed once it is older than `GROUP_S`, except inside of a block."""
    now_s = 0.0
    with closing(sqlite3.connect(path, isolation_level=None)) as db, closing(sqlite3.connect(path)) as other:
        db.execute("CREATE TABLE t (x)")
        groups = GroupCommit(db, lambda exc: OutputError(str(exc)), lambda: now_s)

        def write_after(wait_s: float) -> int:
            nonlocal now_s
            now_s += wait_s
            groups.begin()
            db.execute("INSERT INTO t VALUES (1)")
            return int(other.execute("SELECT count(*) FROM t").fetchone()[0])

        assert [write_after(GROUP_S / 2) for _ in range(3)] == [0, 0, 2]
        with groups.held():
            with groups.held():
                assert write_after(GROUP_S * 2) == 2
            assert write_after(GROUP_S * 2) == 2
        assert write_after(0.0) == 5
        groups.flush()


async def test_reads_see_what_is_not_committed_yet(journal: Journal) -> None:
    """A row reads its own writes in the turn in which it made them."""
    with journal.grouped(STOPPED):
        journal.begin_attempt(prompt(0), attempt(), NOON)
        assert journal.counts().in_flight == 1


async def test_a_value_that_sqlite_cannot_store_reaches_all_who_wait(journal: Journal, path: Path) -> None:
    """A statement that is kept for later and cannot be executed then ends the batch: no row is sent without its
    attempt in the journal."""
    errors = []

    async def begin(row_key: str) -> None:
        journal.begin_attempt(Prompt(row_key, 0, Turn("q"), "f"), attempt(key=row_key), NOON)
        try:
            await journal.committed()
        except OutputError as exc:
            errors.append(str(exc))

    with suppress(OutputError), journal.grouped(STOPPED):
        async with anyio.create_task_group() as tasks:
            for row_key in ("a", "\ud800", "b"):
                tasks.start_soon(begin, row_key)
    assert len(errors) == 3
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM attempts").fetchone() == (0,)
