"""What a leader on Ray may lend is announced before it is lent, so that the next leader knows what may be spent."""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from batchrun.batch.announcements import Announcements
from batchrun.errors import OutputError
from batchrun.journal import Journal
from batchrun.scale import journal_puts
from batchrun.scale.dollar_governor import DollarGovernor, DollarReport
from batchrun.scale.journal_puts import JournalPuts
from batchrun.scale.stored_journal import STORED, StoredJournal, take_up, write_copies
from tests.support.folder_store import Folder, store_in
from tests.support.journal_histories import new_journal
from tests.support.rows import NOON, attempt, completed, prompt

pytestmark = pytest.mark.anyio

LIMIT_USD = 100.0


class Gate(Folder):
    """A store that takes an object only when it may.

    Mutable state: `is_open`; `reached`, set when an object is put.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_open, self.reached = threading.Event(), threading.Event()
        self.is_open.set()

    def open_output_stream(self, path: str) -> Any:
        self.reached.set()
        assert self.is_open.wait(60)
        return super().open_output_stream(path)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.is_open.set()


@pytest.fixture
def store(tmp_path: Path, gate: Gate) -> StoredJournal:
    return StoredJournal(gate, str(tmp_path / "store"), "s3://bucket/answers.csv.journal")


def ignore(_line: str) -> None:
    """Show nothing."""


def place(tmp_path: Path, name: str) -> Path:
    """Return the place of the journal on a machine."""
    (tmp_path / name).mkdir()
    return tmp_path / name / "answers.csv.journal"


def puts_of(store: StoredJournal, journal: Journal, lines: list[str] | None = None) -> JournalPuts:
    return JournalPuts(store, journal, journal.path.parent, ignore if lines is None else lines.append)


def ask(journal: Journal, row: int, cost_usd: float) -> None:
    """Ask a row and finish it."""
    journal.begin_attempt(prompt(row), attempt(), NOON)
    journal.finish(completed(row, cost_usd=cost_usd), prompt(row).fingerprint)


def lend(dollars: DollarGovernor, needed_usd: float, number: int = 1) -> float:
    """Report a row that needs money; return what the worker gets."""
    return dollars.reported("a", DollarReport(number, number - 1, 0.0, 0.0, 0.0, needed_usd, 0.0)).added_usd


def lends_up_to(dollars: DollarGovernor, more_than_usd: float) -> bool:
    return dollars.ceiling_usd > more_than_usd


def on_disk(journal: Journal) -> str | None:
    """Return the announcement as another process sees it."""
    with closing(sqlite3.connect(journal.path)) as db:
        found = db.execute("SELECT value FROM manifest WHERE name = 'announced'").fetchone()
    return None if found is None else str(found[0])


async def until(reached: Any) -> None:
    with anyio.fail_after(60):
        while not reached():
            await anyio.sleep(0.001)


async def test_a_ceiling_is_on_the_disk_and_in_the_store_before_money_is_lent(
    tmp_path: Path, store: StoredJournal, gate: Gate
) -> None:
    """While the store is slow, nothing more is lent; when the run ends, nothing of it is left."""
    with new_journal(place(tmp_path, "a")) as journal:
        puts = puts_of(store, journal)
        await puts.begin()
        gate.is_open.clear()
        gate.reached.clear()
        dollars = DollarGovernor(LIMIT_USD, 0.0, announces=True)
        announcements = Announcements(dollars, journal, puts)
        assert lend(dollars, 5.0) == 0.0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(puts.keep)
            tasks.start_soon(announcements.keep)
            await until(gate.reached.is_set)
            assert on_disk(journal) == '{"ceiling_usd": 5.1}'
            assert dollars.ceiling_usd == 0.0
            assert lend(dollars, 5.0, 2) == 0.0
            gate.is_open.set()
            await until(lambda: dollars.ceiling_usd)
            assert store.ceiling_usd(store.generations()[0], 0) == dollars.ceiling_usd == 5.1
            assert lend(dollars, 5.0, 3) == 5.0
            assert lend(dollars, 9.0, 4) == 0.0
            announcements.look()
            await until(partial(lends_up_to, dollars, 5.1))
            dollars.buried("a", 5.0)
            assert await announcements.end() == 0.0
            tasks.cancel_scope.cancel()
        assert on_disk(journal) is None
        ask(journal, 0, 5.0)
    new = place(tmp_path, "b")
    take_up(store, new, ignore)
    with Journal(new) as journal:
        journal.spending.begin_run()
        assert on_disk(journal) is None


async def test_what_a_lost_leader_announced_counts(tmp_path: Path, store: StoredJournal) -> None:
    """On its disk, and on a machine that has only what is in the store: what the journal knows is not counted twice.
    Losses add up, and a run that ends well keeps the sum."""
    here, there = place(tmp_path, "a"), place(tmp_path, "b")
    with new_journal(here) as journal:
        ask(journal, 0, 2.0)
        puts = puts_of(store, journal)
        await puts.begin()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(puts.keep)
            journal.spending.announce('{"ceiling_usd": 7.0}')
            await puts.announce('{"ceiling_usd": 7.0}')
            tasks.cancel_scope.cancel()
    take_up(store, there, ignore)
    for path in (here, there):
        with Journal(path) as journal:
            for _ in range(2):
                journal.spending.begin_run()
                assert journal.spending.unaccounted_usd == 5.0
                assert journal.spending.unknown_usd() == journal.spending.unseen_usd() == 5.0
            assert journal.spending.unaccounted_notice() == (
                "--budget: $5.0000 counts as spent besides the cost of the answers: workers on Ray may have spent it, "
                "and their journals are lost; a larger --budget makes up for it"
            )
            # Another run, on one machine, spends three dollars; then a leader is lost again.
            ask(journal, 1, 3.0)
            journal.spending.begin_run()
            assert journal.spending.unaccounted_usd == 5.0
            journal.spending.announce(journal.spending.announcement(ceiling_usd=14.0, unaccounted_usd=5.0))
            journal.spending.begin_run()
            assert journal.spending.unaccounted_usd == 9.0
            dollars = DollarGovernor(LIMIT_USD, 14.0, announces=True)
            announcements = Announcements(dollars, journal, None)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(announcements.keep)
                await until(partial(lends_up_to, dollars, 14.0))
                lend(dollars, 0.05)
                assert dollars.buried("a", 0.01, is_whole=False) == pytest.approx(0.04)
                assert await announcements.end() == pytest.approx(0.04)
                tasks.cancel_scope.cancel()
            assert journal.spending.unaccounted_usd == pytest.approx(9.04)


async def test_money_with_a_record_is_counted_once(tmp_path: Path) -> None:
    """A request whose answer was not seen has its reservation in the journal: no more than the rest is unaccounted."""
    with new_journal(place(tmp_path, "a")) as journal:
        journal.begin_attempt(prompt(0), attempt(), NOON, reserved_usd=1.5)
        journal.spending.announce('{"ceiling_usd": 4.0}')
        journal.spending.begin_run()
        assert journal.spending.unaccounted_usd == 2.5
        assert journal.spending.unseen_usd() == 4.0


# -- two leaders ----------------------------------------------------------------------------------------------------


async def test_a_leader_lends_no_more_when_the_batch_continues_elsewhere(
    tmp_path: Path, store: StoredJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The younger one counts what the older one had announced since the younger one read its journal. What the older
    one announces later is not lent."""
    monkeypatch.setattr(journal_puts, "RETRY_S", 0.001)
    here, there = place(tmp_path, "a"), place(tmp_path, "b")
    with new_journal(here) as journal:
        older = puts_of(store, journal)
        await older.begin()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(older.keep)
            await older.announce('{"ceiling_usd": 3.0}')
            take_up(store, there, ignore)
            await older.announce('{"ceiling_usd": 8.0}')
            with Journal(there) as other:
                other.spending.begin_run()
                assert other.spending.unaccounted_usd == 3.0
                lines: list[str] = []
                await puts_of(store, other, lines).begin()
                assert other.spending.unaccounted_usd == 8.0
                assert lines == [other.spending.unaccounted_notice()]
                returned = False

                async def announce() -> None:
                    nonlocal returned
                    await older.announce('{"ceiling_usd": 9.0}')
                    returned = True

                tasks.start_soon(announce)
                generation = journal.read_manifest()[STORED]["generation"]
                await until(lambda: store.ceiling_usd(generation, 0) == 9.0)
                for _ in range(20):
                    await anyio.sleep(0.001)
                assert not returned
            tasks.cancel_scope.cancel()


async def test_the_younger_leader_may_be_lost_at_once(tmp_path: Path, store: StoredJournal) -> None:
    """It has put its journal, and was lost before it had read what the older one had announced meanwhile: whoever comes
    next does, with its disk or without."""
    here, there, new = (place(tmp_path, name) for name in "abc")
    with new_journal(here) as journal:
        older = puts_of(store, journal)
        await older.begin()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(older.keep)
            take_up(store, there, ignore)
            await older.announce('{"ceiling_usd": 8.0}')
            tasks.cancel_scope.cancel()
    with Journal(there) as other:
        other.write_manifest({STORED: {**other.read_manifest()[STORED], "next": "000002-00000000"}})
        store.put_whole("000002-00000000", there, tmp_path)
    take_up(store, new, ignore)
    take_up(store, there, ignore)
    for path in (new, there):
        with Journal(path) as other:
            other.spending.begin_run()
            if path == there:
                await puts_of(store, other).begin()
            assert other.spending.unaccounted_usd == 8.0


async def test_leaders_that_begin_in_the_same_second_count_each_other(
    tmp_path: Path, store: StoredJournal, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that continues counts what the other one has announced before it could notice."""
    names = iter(["ffffffff", "00000000"])
    monkeypatch.setattr(secrets, "token_hex", lambda _size: next(names))
    with new_journal(place(tmp_path, "a")) as first, new_journal(place(tmp_path, "b")) as second:
        gate.is_open.clear()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(puts_of(store, first).begin)
            await until(gate.reached.is_set)
            other = puts_of(store_in(Path(store.path)), second)
            await other.begin()
            tasks.start_soon(other.keep)
            await other.announce('{"ceiling_usd": 6.0}')
            gate.is_open.set()
            await until(lambda: first.spending.unaccounted_usd)
            tasks.cancel_scope.cancel()
        assert first.spending.unaccounted_usd == 6.0


async def test_an_announcement_that_is_damaged_is_named(tmp_path: Path, store: StoredJournal) -> None:
    """One line, and no journal is left that would look like a whole one."""
    with new_journal(place(tmp_path, "a")) as journal:
        await puts_of(store, journal).begin()
    generation, new = store.generations()[0], place(tmp_path, "b")
    write_copies([b'{"ceiling_usd": '], tmp_path / "damaged")
    store.put(generation, 1, tmp_path / "damaged")
    for use in (lambda: take_up(store, new, ignore), lambda: store.ceiling_usd(generation, 0)):
        with pytest.raises(OutputError, match=rf"{generation}: cannot be used \("):
            use()
    assert not new.exists()


async def test_a_store_that_refuses_says_that_the_money_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line says so once; when the store takes objects again, the announcement is put, and another line says that."""
    monkeypatch.setattr(journal_puts, "RETRY_S", 0.001)
    lines: list[str] = []

    class Refusing(Folder):
        refuses = False

        def open_output_stream(self, path: str) -> Any:
            if self.refuses:
                raise OSError("refused")
            return super().open_output_stream(path)

    system = Refusing()
    store = StoredJournal(system, str(tmp_path / "store"), "s3://bucket/answers.csv.journal")
    with new_journal(place(tmp_path, "a")) as journal:
        puts = puts_of(store, journal, lines)
        await puts.begin()
        system.refuses = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(puts.keep)
            tasks.start_soon(puts.announce, '{"ceiling_usd": 6.0}')
            await until(lambda: lines)
            system.refuses = False
            await until(lambda: len(lines) == 2)
            tasks.cancel_scope.cancel()
    assert lines[0].endswith(
        "; no rows are sent once the last copy there is 60 s old, or the money of --budget that was announced there is used"
    )
    assert lines[1] == "s3://bucket/answers.csv.journal: can be written again"
