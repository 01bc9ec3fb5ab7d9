"""Duplicate rows: which row is sent, and which rows get its answer."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from batchrun.journal import Journal
from batchrun.records import Completed, Failed, Outcome
from batchrun.token_usage import Usage
from tests.support.ends import ended
from tests.support.rows import NOON, completed, failed


@pytest.fixture
def batch(journal: Journal) -> Journal:
    """A batch before its first row."""
    journal.duplicates.begin()
    return journal


def outcome(journal: Journal, row: int, fingerprint: str = "f") -> Outcome:
    found = journal.outcome(str(row))
    assert found is not None
    assert found[1] == fingerprint
    return found[0]


def looked_at(journal: Journal, *rows: int, fingerprint: str = "f") -> list[bool]:
    return [journal.duplicates.is_first(str(row), fingerprint) for row in rows]


def superseded(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        return int(db.execute("SELECT count(*) FROM superseded").fetchone()[0])


def resumed(path: Path) -> Journal:
    """The journal as the next run of the batch finds it."""
    journal = Journal(path)
    journal.duplicates.begin()
    return journal


def test_the_first_is_asked(batch: Journal) -> None:
    """Of rows that ask the same, the first is sent; a row that asks something else is sent too."""
    assert looked_at(batch, 0, 1, 2) == [True, False, False]
    assert looked_at(batch, 3, 4, fingerprint="g") == [True, False]


def test_the_answer_is_shared_and_costs_nothing_again(batch: Journal) -> None:
    """Duplicates have the answer, its ids and its time; tokens, cost and attempts belong to the first row only."""
    looked_at(batch, 0, 1)
    first = completed(0, "four", cost_usd=0.5, extras={"citations": [{"url": "u"}]})
    batch.finish(first, "f")
    batch.duplicates.share()
    nothing = Usage(0, 0, 0, 0, 0)
    assert outcome(batch, 0) == first
    assert outcome(batch, 1) == replace(first, row_key="1", usage=nothing, cost_usd=0.0, attempts=0, duration_s=0.0)
    assert batch.spent_usd() == 0.5
    assert batch.counts().completed == 2


def test_an_unknown_cost_stays_unknown(batch: Journal) -> None:
    """An unknown cost does not become zero."""
    looked_at(batch, 0, 1)
    batch.finish(completed(0), "f")
    batch.duplicates.share()
    assert outcome(batch, 1).cost_usd is None


def test_nothing_to_share_yet(batch: Journal) -> None:
    """While the first has no outcome, its duplicates have none."""
    looked_at(batch, 0, 1)
    batch.duplicates.share()
    assert batch.outcome("1") is None


def test_a_failure_is_shared_until_the_retry(path: Path, batch: Journal) -> None:
    """A failed first fails its duplicates; when it is asked again and answered, they are answered too."""
    looked_at(batch, 0, 1)
    batch.finish(failed(0), "f")
    batch.duplicates.share()
    shared = outcome(batch, 1)
    assert isinstance(shared, Failed)
    assert (shared.error_type, shared.attempts) == ("server_error", 0)
    with resumed(path) as later:
        assert looked_at(later, 0, 1) == [True, False]
        later.finish(completed(0, "at last"), "f")
        later.duplicates.share()
        assert outcome(later, 1).response == "at last"
    assert superseded(path) == 1, "the first's failure; the copy of it cost nothing"


def test_sharing_twice_changes_nothing(path: Path, batch: Journal) -> None:
    """The same batch, run again, leaves everything as it is."""
    looked_at(batch, 0, 1)
    batch.finish(completed(0, "four"), "f")
    batch.duplicates.share()
    before = outcome(batch, 1)
    with resumed(path) as later:
        assert looked_at(later, 0, 1) == [True, False]
        later.duplicates.share()
        assert outcome(later, 1) == before
    assert superseded(path) == 0


def test_killed_before_the_sharing(path: Path, batch: Journal) -> None:
    """The next run shares the answers of an earlier one, and sends nothing."""
    looked_at(batch, 0, 1)
    batch.finish(completed(0, "four"), "f")
    with resumed(path) as later:
        assert looked_at(later, 0, 1) == [True, False]
        assert outcome(later, 1).response == "four", "at once"


def test_an_answer_of_its_own_stays(path: Path, batch: Journal) -> None:
    """A row that was asked itself, before duplicates were looked for, keeps what it paid for."""
    batch.finish(completed(0, "zero"), "f")
    batch.finish(completed(1, "one"), "f")
    with resumed(path) as later:
        assert looked_at(later, 0, 1) == [True, False]
        later.duplicates.share()
        assert (outcome(later, 0).response, outcome(later, 1).response) == ("zero", "one")
    assert superseded(path) == 0


def test_a_failure_of_its_own_gives_way(path: Path, batch: Journal) -> None:
    """A row that failed itself gets the first's answer; what its failure cost stays known."""
    batch.finish(completed(0, "zero"), "f")
    batch.finish(failed(1, cost_usd=0.25), "f")
    with resumed(path) as later:
        looked_at(later, 0, 1)
        assert outcome(later, 1).response == "zero"
        assert later.spent_usd() == 0.25
    assert superseded(path) == 1


@pytest.mark.parametrize("own", [None, failed(0)], ids=["never asked", "failed"])
def test_who_has_the_answer_already_is_the_first(path: Path, batch: Journal, own: Outcome | None) -> None:
    """Of rows that ask the same, one was answered earlier (in a pilot, or before rows were put in): none is asked."""
    if own is not None:
        batch.finish(own, "f")
    batch.finish(completed(5, "known"), "f")
    with resumed(path) as later:
        assert looked_at(later, 0, 5) == [False, True]
        assert outcome(later, 0).response == "known"


def test_the_first_asks_something_else_now(path: Path, batch: Journal) -> None:
    """An edited first row takes its answer from nobody: what asks as it did before gets that answer."""
    looked_at(batch, 0, 1)
    batch.finish(completed(0, "old"), "f")
    with resumed(path) as later:
        assert looked_at(later, 0, fingerprint="edited") == [True]
        assert looked_at(later, 1) == [False]
        later.finish(completed(0, "new"), "edited")
        later.duplicates.share()
        assert outcome(later, 0, "edited").response == "new"
        assert outcome(later, 1).response == "old"


def test_the_rows_own_question_changed(path: Path, batch: Journal) -> None:
    """A copy stands for the question it answers; a row that asks something else now is asked."""
    looked_at(batch, 0, 1)
    batch.finish(completed(0, "old"), "f")
    batch.duplicates.share()
    with resumed(path) as later:
        assert looked_at(later, 0) == [True]
        assert looked_at(later, 1, fingerprint="edited") == [True]
        later.finish(completed(1, "own"), "edited")
        later.duplicates.share()
        assert outcome(later, 1, "edited").response == "own"


def test_answers_that_are_too_old(path: Path, batch: Journal) -> None:
    """With an age limit the first is asked again, and the new answer takes the place of older ones, copied or own."""
    looked_at(batch, 0, 1)
    batch.finish(completed(0, "old"), "f")
    batch.duplicates.share()
    batch.finish(completed(2, "own"), "f")
    with Journal(path) as later:
        later.duplicates.begin(NOON + timedelta(days=1))
        assert looked_at(later, 0, 1, 2) == [True, False, False]
        later.finish(completed(0, "new", completed_at=NOON + timedelta(days=2)), "f")
        later.duplicates.share()
        assert [outcome(later, row).response for row in range(3)] == ["new"] * 3
    assert superseded(path) == 2


def test_answers_of_several_turns_are_shared(path: Path, batch: Journal) -> None:
    """A duplicate of a row of several turns has the answers of all of them; they cost nothing again."""
    looked_at(batch, 0, 1)
    batch.exchanges.add("0", "f", ended(1, 1, "a"))
    batch.exchanges.add("0", "f", ended(2, 2, "b", attempt=2))
    batch.finish(completed(0, "b", attempts=2), "f")
    batch.duplicates.share()
    assert batch.exchanges.answers("1", "f", 0) == {1: "a", 2: "b"}
    with resumed(path) as later:
        looked_at(later, 0, 1)
        later.duplicates.share()
        assert later.exchanges.answers("1", "f", 0) == {1: "a", 2: "b"}
        assert [end.reply.usage for end in later.exchanges.of_row("1", "f")] == [Usage(), Usage()]


def test_turns_of_a_failed_row_give_way(path: Path, batch: Journal) -> None:
    """A failed duplicate's own runs are not mixed with another row's answer, and are not lost."""
    batch.exchanges.add("1", "f", ended(1, 1, "mine"))
    batch.finish(failed(1, attempts=2), "f")
    batch.exchanges.add("0", "f", ended(1, 1, "a"))
    batch.finish(completed(0, "b", attempts=2), "f")
    with resumed(path) as later:
        assert looked_at(later, 0, 1) == [True, False]
        assert later.exchanges.answers("1", "f", 0) == {1: "a"}
        assert later.exchanges.answers("1", "f/own", 1) == {1: "mine"}


def test_a_copy_without_its_original_is_still_an_answer(path: Path, batch: Journal) -> None:
    """A copy whose first is gone from the table still is an answer: no row that asks the same is asked."""
    looked_at(batch, 0, 1)
    batch.finish(completed(0, "four"), "f")
    batch.duplicates.share()
    with resumed(path) as later:
        assert looked_at(later, 1, 2) == [False, False]
        assert outcome(later, 2).response == "four"
        assert isinstance(outcome(later, 1), Completed)
