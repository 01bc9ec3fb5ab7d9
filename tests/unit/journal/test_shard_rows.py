"""Journals of shards: what workers record there is in the main journal as if it had been recorded there."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.errors import OutputError
from batchrun.journal import Created, Journal
from batchrun.journal.live import FollowedJournal
from batchrun.journal.shard_rows import drop, gather, seed, ungathered
from tests.support.journal_histories import (
    BATCH,
    CUT,
    KINDS,
    MEMORY,
    REMOTE,
    ROWS,
    STEPS,
    History,
    content,
    new_copy,
    new_journal,
)
from tests.support.rows import NOON, attempt, completed, prompt


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """The place of a shard's journal."""
    return tmp_path / "out.csv.journal.d" / "00001.journal"


# -- any history, any cut, any portions -----------------------------------------------------------------------------


WORK = st.lists(st.tuples(st.integers(0, ROWS - 1), st.sampled_from((*KINDS, "gather", "gather"))), max_size=40)


@given(before=STEPS, rounds=st.lists(st.tuples(CUT, WORK), min_size=1, max_size=2))
def test_a_journal_with_shards_is_one_without(before: Any, rounds: Any) -> None:
    """Any history, cut into shards in any way, continued there, and gathered in any portions and more than once, is the
    same in every table as without shards; who follows the journal sees every outcome."""
    with TemporaryDirectory(dir=MEMORY) as folder, ExitStack() as stack:
        place = Path(folder)
        alone, main = (stack.enter_context(new_journal(place / name)) for name in ("alone", "main"))
        follower = stack.enter_context(FollowedJournal(place / "main"))
        alone.look_back()
        main.look_back()
        seen: dict[str, Any] = {}
        history = History()
        for row, kind in before:
            history.record(row, kind, [alone, main])
        look(follower, seen)
        for cut, work in rounds:
            history.send()
            paths = [place / f"shard{number}" for number in range(2)]
            for number, path in enumerate(paths):
                seed(main, path, [str(row) for row in range(ROWS) if cut[row] == number])
            with ExitStack() as workers:
                shards = [workers.enter_context(Journal(path)) for path in paths]
                for shard in shards:
                    shard.look_back()
                for row, kind in work:
                    if kind == "gather":
                        gather(main, paths[cut[row]])
                        history.send()
                        look(follower, seen)
                    else:
                        history.record(row, kind, [alone, shards[cut[row]]])
            for path in (*paths, paths[1]):
                gather(main, path, whole=True)
            assert content(place / "main") == content(place / "alone")
            assert (main.spent_usd(), main.counts()) == (alone.spent_usd(), alone.counts())
            assert main.models.totals() == alone.models.totals()
            look(follower, seen)
            assert seen == {str(row): main.outcome(str(row)) for row in range(ROWS) if main.outcome(str(row))}
            for path in paths:
                drop(main, path)
        assert not [name for name in main.read_manifest() if name.startswith("gathered/")]


@given(before=STEPS, rounds=st.lists(st.tuples(CUT, REMOTE), min_size=1, max_size=2))
def test_a_journal_with_copies_of_shards_is_one_without(before: Any, rounds: Any) -> None:
    """Shards on other machines, of which only copies of what is new are gathered: the same in every table as without
    shards. A copy that is lost, or whose arrival was not confirmed, changes nothing."""
    with TemporaryDirectory(dir=MEMORY) as folder, ExitStack() as stack:
        place = Path(folder)
        alone, main = (stack.enter_context(new_journal(place / name)) for name in ("alone", "main"))
        alone.look_back()
        main.look_back()
        history = History()
        for row, kind in before:
            history.record(row, kind, [alone, main])
        for cut, work in rounds:
            history.send()
            paths = [place / f"shard{number}" for number in range(2)]
            copies = [place / f"copy{number}" for number in range(2)]
            for number, path in enumerate(paths):
                seed(main, path, [str(row) for row in range(ROWS) if cut[row] == number])
            since = [[0, 0, 0] for _ in paths]

            with ExitStack() as workers:
                shards = [workers.enter_context(Journal(path)) for path in paths]
                for shard in shards:
                    shard.look_back()
                for row, kind in work:
                    number = cut[row]
                    if kind in ("copy", "unconfirmed", "lost"):
                        last = new_copy(paths[number], copies[number], since[number])
                        if kind != "lost":
                            gather(main, copies[number])
                            history.send()
                        if kind == "copy":
                            since[number] = last
                    else:
                        history.record(row, kind, [alone, shards[number]])
            for number in (0, 1, 1):
                new_copy(paths[number], copies[number], since[number])
                gather(main, copies[number], whole=True)
            assert content(place / "main") == content(place / "alone")
            assert (main.spent_usd(), main.counts()) == (alone.spent_usd(), alone.counts())
            assert main.models.totals() == alone.models.totals()
            for path in copies:
                drop(main, path)
        assert not [name for name in main.read_manifest() if name.startswith("gathered/")]


def look(follower: FollowedJournal, seen: dict[str, Any]) -> None:
    """Bring what a live page knows up to date."""
    while (changes := follower.changes()) is not None:
        if changes.is_new_batch:
            seen.clear()
        for each in changes.outcomes:
            seen[each.row_key] = follower.outcome(each.row_key)
            assert seen[each.row_key][0].response == each.cells["response"]
        if not changes.has_more:
            break


# -- one thing at a time --------------------------------------------------------------------------------------------


def ask(journal: Journal, row: int, cost_usd: float = 0.5) -> None:
    """Ask a row and finish it, as the engine does over Chat Completions."""
    asked = prompt(row)
    journal.begin_attempt(asked, attempt(), NOON)
    journal.finish(completed(row, cost_usd=cost_usd), asked.fingerprint, with_ids=True)


def test_a_shard_knows_its_rows_only(journal: Journal, shard: Path) -> None:
    """A shard has the batch id and the history of its own rows; nobody else may read its answers."""
    journal.write_manifest(BATCH)
    for row in range(3):
        ask(journal, row)
    thread = Created("thread", "thread_1", "1")
    for made in (thread, Created("thread", "thread_2", "2"), Created("assistant", "asst_1", None)):
        journal.created.add(made, "place")
    seed(journal, shard, ["1", "7"])
    with Journal(shard) as opened:
        assert opened.read_manifest().items() >= BATCH.items()
        assert opened.counts().completed == 1
        journal.look_back()
        assert opened.history("1") == journal.history("1")
        assert opened.history("7") is None
        assert list(opened.created.left("place", of_rows=True, followed=True)) == [thread]
        assert not opened.created.count("place", of_rows=False, followed=True)
    assert shard.stat().st_mode & 0o077 == 0


def test_a_page_gets_rows_in_the_order_in_which_they_ended(journal: Journal, shard: Path) -> None:
    """Rows of a shard come to those who follow the main journal as they ended, and only the new ones."""
    journal.write_manifest(BATCH)
    seed(journal, shard, map(str, range(ROWS)))
    with Journal(shard) as worker, FollowedJournal(journal.path) as follower:
        assert follower.changes() is not None
        for ended in ([3, 0], [4, 1, 2]):
            for row in ended:
                ask(worker, row)
            gather(journal, shard)
            changes = follower.changes()
            assert changes is not None
            assert [each.row_key for each in changes.outcomes] == [str(row) for row in ended]
            assert {key: len(attempts) for key, attempts in changes.attempts.items()} == {str(row): 1 for row in ended}


def test_rows_are_gathered_while_the_worker_is_in_a_transaction(journal: Journal, shard: Path) -> None:
    """A worker that is just writing keeps nobody waiting, and what it has not committed is not seen."""
    journal.write_manifest(BATCH)
    seed(journal, shard, ["0", "1"])
    with Journal(shard) as worker, closing(sqlite3.connect(shard, isolation_level=None)) as writing:
        ask(worker, 0)
        writing.execute("BEGIN IMMEDIATE")
        writing.execute("UPDATE outcomes SET cost_usd = 8")
        assert gather(journal, shard) == 1
        writing.execute("ROLLBACK")
        ask(worker, 1)
        assert gather(journal, shard) == 1
        assert gather(journal, shard) == 0
    assert journal.counts().completed == 2
    assert journal.spent_usd() == 1.0


@pytest.mark.anyio
async def test_rows_of_the_leader_itself_are_committed_first(journal: Journal, shard: Path) -> None:
    """Between two turns of the leader's loop, what it has written is committed before rows are copied."""
    journal.write_manifest(BATCH)
    with journal.grouped():
        ask(journal, 0)
        seed(journal, shard, ["1"])
        with Journal(shard) as worker:
            ask(worker, 1)
        ask(journal, 2)
        assert gather(journal, shard, whole=True) == 1
        ask(journal, 3)
        await journal.committed()
    assert journal.counts().completed == 4


def test_a_row_in_flight_is_gathered_with_the_whole(journal: Journal, shard: Path) -> None:
    """A row that a worker left in flight is in flight in the main journal, with its ids and its key."""
    journal.write_manifest(BATCH)
    seed(journal, shard, ["0"])
    with Journal(shard) as worker:
        worker.begin_attempt(prompt(0), attempt(key="key-of-0"), NOON)
        worker.set_ids("0", 1, "thread_0", "run_0")
    assert gather(journal, shard) == 0
    assert journal.counts().in_flight == 0
    assert gather(journal, shard, whole=True) == 0
    assert journal.counts().in_flight == 1
    journal.look_back()
    history = journal.history("0")
    assert history is not None
    assert history.last == attempt(key="key-of-0", thread_id="thread_0", run_id="run_0", unseen=True)


def test_a_whole_gathered_twice_counts_once(journal: Journal, shard: Path) -> None:
    """A process that dies between gathering a shard and deleting it changes nothing: neither costs nor superseded
    outcomes nor cool-downs are counted twice."""
    journal.write_manifest(BATCH)
    ask(journal, 0)
    seed(journal, shard, ["0", "1"])
    with Journal(shard) as worker:
        ask(worker, 1)
        worker.begin_attempt(prompt(0), attempt(2, 2), NOON)
        worker.finish(completed(0, cost_usd=0.25, attempts=2), prompt(0).fingerprint, with_ids=True)
        worker.cooled_down(NOON, 1.0, "rate limit")
    assert ungathered(journal, shard) == 2
    gather(journal, shard, whole=True)
    once = content(journal.path)
    assert ungathered(journal, shard) == 0
    gather(journal, shard, whole=True)
    assert content(journal.path) == once
    assert journal.spent_usd() == 1.25
    drop(journal, shard)
    assert list(shard.parent.iterdir()) == []
    assert content(journal.path) == once


def test_a_shard_that_was_not_seeded_to_its_end_is_empty(journal: Journal, shard: Path) -> None:
    """A process that died while it seeded a shard has left nothing to gather."""
    journal.write_manifest(BATCH)
    shard.parent.mkdir()
    Journal(shard).close()
    assert (ungathered(journal, shard), gather(journal, shard, whole=True)) == (0, 0)
    drop(journal, shard)
    assert not shard.exists()


def test_a_shard_of_another_batch_is_refused(journal: Journal, shard: Path) -> None:
    """The rows of another batch are never mixed in; the line names the file."""
    journal.write_manifest(BATCH)
    seed(journal, shard, [])
    with Journal(shard) as worker:
        worker.write_manifest({"batch_id": "batch_2"})
        ask(worker, 0)
    with pytest.raises(OutputError, match=r"00001\.journal: belongs to another batch .* move it away"):
        gather(journal, shard, whole=True)
    assert journal.is_empty()


def test_a_shard_that_cannot_be_read_is_named(journal: Journal, shard: Path) -> None:
    """A missing or a broken file is reported by its own name, and the main journal stays usable."""
    journal.write_manifest(BATCH)
    with pytest.raises(OutputError, match=r"00001\.journal: this journal does not exist"):
        gather(journal, shard)
    shard.parent.mkdir()
    shard.write_bytes(b"not a database, but long enough to be one" * 100)
    with pytest.raises(OutputError, match=r"00001\.journal, while it is copied from or into out\.csv\.journal: "):
        gather(journal, shard)
    ask(journal, 0)
    assert journal.counts().completed == 1
