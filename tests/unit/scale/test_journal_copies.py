"""Copies of a shard's journal: made while it is written, gathered by the leader, and held back when nobody confirms them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from batchrun.errors import OutputError
from batchrun.journal import Journal
from batchrun.journal.shard_rows import gather, seed
from batchrun.scale import journal_copies
from batchrun.scale.journal_copies import NO_COPY, JournalCopies, JournalCopy, write_copy
from tests.support.rows import NOON, attempt, completed, prompt

pytestmark = pytest.mark.anyio

ROWS = 20


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_copies, "COPY_S", 0.01)


@pytest.fixture
def main(tmp_path: Path) -> Iterator[Journal]:
    """The journal of the leader."""
    path = tmp_path / "leader" / "out.csv.journal"
    path.parent.mkdir()
    with Journal(path) as journal:
        journal.write_manifest({"batch_id": "batch_1", "prices": []})
        yield journal


@pytest.fixture
def shard(main: Journal, tmp_path: Path) -> Path:
    """The journal of a shard, on the machine of the worker."""
    path = tmp_path / "worker" / "00001.journal"
    seed(main, path, map(str, range(ROWS)))
    return path


def ask(journal: Journal, row: int) -> None:
    """Ask a row and finish it."""
    asked = prompt(row)
    journal.begin_attempt(asked, attempt(), NOON)
    journal.finish(completed(row, f"answer {row}", cost_usd=0.5), asked.fingerprint, with_ids=True)


class Leader:
    """Gathers the copies that come, and confirms them.

    Mutable state: `copies`, what came; `worker`, which gets the confirmations; `confirms`, whether it sends them.
    """

    def __init__(self, main: Journal, place: Path) -> None:
        self.main, self.place = main, place
        self.copies: list[JournalCopy] = []
        self.worker: JournalCopies | None = None
        self.confirms = True

    async def take(self, copy: JournalCopy) -> None:
        """Take a copy."""
        self.copies.append(copy)
        write_copy(copy.content, self.place)
        gather(self.main, self.place, whole=copy.is_last)
        if self.confirms and self.worker is not None:
            self.worker.confirm(copy.number)

    def ended(self) -> int:
        """Return the number of rows that are known to have ended."""
        return self.main.counts().completed


@pytest.fixture
def leader(main: Journal, tmp_path: Path) -> Leader:
    return Leader(main, tmp_path / "leader" / "out.csv.journal.d" / "00001.journal")


async def test_rows_reach_the_leader_while_the_shard_is_run(leader: Leader, shard: Path) -> None:
    """Each row that ends is soon in the main journal; the last copy has the rows that did not end; nothing comes twice."""
    held: list[str] = []
    copies = leader.worker = JournalCopies(1, shard, leader.take, lambda _wait_s, reason: held.append(reason))
    with Journal(shard) as journal:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(copies.keep)
            for row in range(ROWS - 1):
                ask(journal, row)
                while leader.ended() <= row:
                    await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
        journal.begin_attempt(prompt(ROWS - 1), attempt(), NOON)
    await copies.finish()
    assert leader.main.counts().in_flight == 1
    assert leader.main.spent_usd() == 0.5 * (ROWS - 1)
    assert [copy.number for copy in leader.copies] == list(range(1, len(leader.copies) + 1))
    assert [copy.is_last for copy in leader.copies] == [False] * (len(leader.copies) - 1) + [True]
    # A copy has what is new: the last of many is hardly larger than the first.
    assert len(leader.copies[-1].content) < 2 * len(leader.copies[0].content)
    assert held == []


async def test_nothing_new_is_not_copied(leader: Leader, shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that does not change is not copied, and the leader's copy of it does not become old."""
    monkeypatch.setattr(journal_copies, "MAX_COPY_AGE_S", 0.05)
    held: list[str] = []
    copies = leader.worker = JournalCopies(1, shard, leader.take, lambda _wait_s, reason: held.append(reason))
    with anyio.move_on_after(0.3):
        await copies.keep()
    assert leader.copies == []
    assert held == []


async def test_rows_are_held_while_the_leader_confirms_nothing(
    leader: Leader, shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose copies are not confirmed sends no more of them, and no rows; a confirmation ends both."""
    monkeypatch.setattr(journal_copies, "MAX_COPY_AGE_S", 0.05)
    leader.confirms = False
    held: list[tuple[float, str]] = []
    copies = leader.worker = JournalCopies(1, shard, leader.take, lambda *hold: held.append(hold))
    with Journal(shard) as journal:
        ask(journal, 0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(copies.keep)
            while len(held) < 3:
                await anyio.sleep(0.001)
            assert set(held) == {(0.02, NO_COPY)}
            assert len(leader.copies) == 1
            ask(journal, 1)
            leader.confirms = True
            copies.confirm(1)
            while leader.ended() < 2:
                await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()


async def test_a_late_confirmation_of_another_copy_is_ignored(leader: Leader, shard: Path) -> None:
    """Only the newest copy counts: after it a confirmation of an earlier one, for instance a repeated one, changes nothing."""
    leader.confirms = False
    copies = JournalCopies(1, shard, leader.take, lambda _wait_s, _reason: None)
    with Journal(shard) as journal:
        ask(journal, 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(copies.finish)
        while not leader.copies:
            await anyio.sleep(0.001)
        copies.confirm(0)
        await anyio.wait_all_tasks_blocked()
        assert len(leader.copies) == 1
        copies.confirm(1)


async def test_a_shard_that_cannot_be_copied_is_an_error(leader: Leader, shard: Path) -> None:
    """A journal that is gone, or a full disk, ends the worker with a line: the leader must not believe in copies."""
    missing = shard.with_name("00002.journal")
    copies = JournalCopies(2, missing, leader.take, lambda _wait_s, _reason: None)
    with pytest.raises(OutputError, match="this journal does not exist"):
        await copies.finish()
