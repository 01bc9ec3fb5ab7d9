"""A worker on another machine that was lost: what its replacement finds there, and what the leader does with it."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from batchrun.batch import shard_worker
from batchrun.batch.lock import held
from batchrun.batch.remote_shards import RemoteShards
from batchrun.batch.shard_worker import serve
from batchrun.batch.worker_state import OpenShard, Worker
from batchrun.journal import Journal
from batchrun.journal.shard_rows import gather, seed
from batchrun.scale import journal_puts
from batchrun.scale.journal_puts import JournalPuts
from batchrun.scale.links import LeaderLost, WorkerLost
from batchrun.scale.messages import LeftCopy, LeftJournal, Shard
from batchrun.scale.stored_journal import take_up
from tests.support.folder_store import store_in
from tests.support.journal_histories import new_journal
from tests.support.rows import NOON, attempt, completed, prompt

pytestmark = pytest.mark.anyio


class Ends:
    """Both ends between a leader and a worker that runs here, in the place of a connection.

    Mutable state: `sent`, by the leader and not received; `answers`, of the worker; `is_lost`, whether it has ended.
    """

    name = "worker 1"

    def __init__(self, node: str) -> None:
        self.node = node
        self.sent: list[object] = []
        self.answers: deque[object] = deque()
        self.is_lost = False

    async def send(self, message: object) -> None:
        self.sent.append(message)

    async def receive(self) -> object:
        if self.is_lost:
            raise WorkerLost("was lost")
        await serve(Port(self))
        return self.answers.popleft()

    async def aclose(self) -> None:
        self.is_lost = True


class Port:
    """The worker's end."""

    def __init__(self, ends: Ends) -> None:
        self._ends = ends

    async def send(self, message: object) -> None:
        self._ends.answers.append(message)

    async def receive(self) -> object:
        if not self._ends.sent:
            raise LeaderLost
        return self._ends.sent.pop()


class Batch:
    """A batch with one shard on another machine, two of whose rows have ended; the leader has a copy with the first.

    Mutable state: `lines`, shown so far; `started`, the machines that were preferred.
    """

    def __init__(self, folder: Path, main: Journal) -> None:
        self.main, self.lines, self.started = main, list[str](), list[str | None]()
        self.left = folder / "worker" / "00001.journal"
        self.copy = folder / "leader" / "shards" / "00001.journal"
        for path in (self.left, self.copy):
            path.parent.mkdir(parents=True)
        seed(main, self.left, ["0", "1"])
        with Journal(self.left) as journal:
            self.ask(journal, 0)
        self.copy.write_bytes(self.left.read_bytes())
        with Journal(self.left) as journal:
            self.ask(journal, 1)
        gather(main, self.copy)
        self.store = store_in(folder / "store")
        self.puts = JournalPuts(self.store, main, self.copy.parent, self.lines.append)
        shard = OpenShard(Shard(1, self.copy, self.copy.with_suffix(".rows"), 2), place=self.left)
        self.worker = Worker(1, None, shards={1: shard})

    @staticmethod
    def ask(journal: Journal, row: int) -> None:
        journal.begin_attempt(prompt(row), attempt(), NOON)
        journal.finish(completed(row), prompt(row).fingerprint)

    def remote(self, *links: Ends, is_stored: bool = True) -> RemoteShards:
        """Return what starts these workers, one after another; `is_stored`: with a store."""
        left = deque(links)

        async def start(_name: str, node: str | None) -> Ends:
            self.started.append(node)
            return left.popleft()

        return RemoteShards(start, self.main, self.puts if is_stored else None, self.lines.append)

    def gather(self, shard: OpenShard) -> None:
        """Take the copy of the shard into the journal of the leader."""
        gather(self.main, shard.shard.journal, whole=True)

    def ended(self) -> int:
        """Return the number of rows that the leader knows to have ended."""
        return self.main.counts().ended


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    (tmp_path / "leader").mkdir()
    with new_journal(tmp_path / "leader" / "answers.csv.journal") as main:
        yield Batch(tmp_path, main)


async def test_the_rest_comes_from_the_machine_of_the_lost_worker(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replacement is wanted there; its answer is the last copy, and is in the store before the worker begins."""
    monkeypatch.setattr(journal_puts, "GROUP_S", 0.001)
    lost, new = Ends("a"), Ends("a")
    remote = batch.remote(lost, new)
    await batch.puts.begin()
    assert await remote.started(batch.worker) is lost
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(batch.puts.keep)
        assert await remote.recover(batch.worker, batch.gather)
        tasks.cancel_scope.cancel()
    assert batch.started == [None, "a"]
    assert batch.ended() == 2
    assert await remote.started(batch.worker) is new
    path = tmp_path / "new" / "answers.csv.journal"
    take_up(batch.store, path, batch.lines.append)
    with Journal(path) as restored:
        assert restored.counts() == batch.main.counts()
    assert batch.lines == [f"continues with the journal at {batch.store.shown}: 2 rows have ended"]


@pytest.mark.parametrize("node", ["b", "a"])
async def test_without_the_machine_the_copies_count(batch: Batch, node: str) -> None:
    """A replacement elsewhere is not asked; one that is lost at once, too, is closed, and another one can start."""
    lost, new, third = Ends("a"), Ends(node), Ends("c")
    remote = batch.remote(lost, new, third)
    await remote.started(batch.worker)
    new.is_lost = node == "a"
    assert not await remote.recover(batch.worker, batch.gather)
    assert [type(message) for message in new.sent] == ([LeftJournal] if node == "a" else [])
    assert batch.ended() == 1
    assert await remote.started(batch.worker) is (third if node == "a" else new)
    assert batch.lines == []


async def test_a_journal_that_cannot_be_had_is_reported(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is still written by a worker that was given up, or is damaged, or gone: a line says so, and the copies count."""
    monkeypatch.setattr(shard_worker, "LEFT_TIMEOUT_S", 0.01)
    remote = batch.remote(*(Ends("a") for _ in range(4)))
    await remote.started(batch.worker)
    with held(batch.left.with_suffix(".lock")):
        assert not await remote.recover(batch.worker, batch.gather)
    for path in batch.left.parent.glob("*.journal*"):
        path.write_bytes(b"no journal" * 100)
    assert not await remote.recover(batch.worker, batch.gather)
    batch.left.unlink()
    assert not await remote.recover(batch.worker, batch.gather)
    assert batch.ended() == 1
    start = "worker 1: asks again what it had not sent yet, since "
    assert [line.removeprefix(start) for line in batch.lines[::2]] == [
        f"the lost worker still writes {batch.left}",
        f"{batch.left} is gone",
    ]
    assert batch.lines[1].startswith(f"{start}{batch.left}, while it is copied")


@pytest.mark.parametrize("is_received", [False, True])
async def test_a_shard_that_the_leader_does_not_know_to_have_begun(batch: Batch, is_received: bool) -> None:
    """It is looked for next to the others: the worker may have begun with it, or may not have received it. In both
    cases nothing is missing. Without a place for any of them nobody knows where to look."""
    left, copy = batch.left.with_name("00002.journal"), batch.copy.with_name("00002.journal")
    if is_received:
        seed(batch.main, left, ["2"])
        copy.write_bytes(left.read_bytes())
        with Journal(left) as journal:
            batch.ask(journal, 2)
    remote = batch.remote(Ends("a"), Ends("a"), is_stored=False)
    await remote.started(batch.worker)
    batch.worker.shards[2] = OpenShard(Shard(2, copy, copy.with_suffix(".rows"), 1))
    assert await remote.recover(batch.worker, batch.gather)
    assert batch.ended() == 2 + is_received
    assert batch.lines == []
    batch.worker.shards[1].place = None
    assert not await remote.recover(batch.worker, batch.gather)


async def test_the_answer_is_the_whole_journal(batch: Batch) -> None:
    """Also with what earlier copies had: nobody knows which of them the leader has."""
    ends = Ends("a")
    await ends.send(LeftJournal(batch.left))
    answer = await ends.receive()
    assert isinstance(answer, LeftCopy)
    assert answer.content is not None
    batch.copy.write_bytes(zlib.decompress(answer.content))
    with Journal(batch.copy) as copy:
        assert copy.counts().completed == 2
