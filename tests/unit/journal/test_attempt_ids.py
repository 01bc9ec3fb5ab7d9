"""Ids that came with an outcome are not written a second time, and every reader finds them all the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import PermanentFault
from batchrun.journal import Carried, Journal
from batchrun.journal.live import FollowedJournal
from batchrun.records import Outcome
from batchrun.token_usage import Usage
from tests.support.rows import NOON, attempt, completed, failed, prompt

RESPONSES: dict[str, Any] = {"settings": {"api": "responses"}, "base_url": "https://x/v1"}


def write(journal: Journal, outcome: Outcome, number: int = 1, *, with_ids: bool) -> None:
    """Write a row whose ids came with its outcome, in the short way or as an earlier version did."""
    row = int(outcome.row_key)
    journal.begin_attempt(prompt(row), attempt(number), NOON)
    if isinstance(outcome, type(failed())):
        journal.record_fault(outcome.row_key, number, PermanentFault("no", error_type="x", run_ended=True))
    if not with_ids:
        journal.set_ids(outcome.row_key, number, outcome.thread_id, outcome.run_id)
    journal.finish(replace(outcome, attempts=number), prompt(row).fingerprint, with_ids=with_ids)


def answered(row: int, number: int = 1, **fields: Any) -> Outcome:
    return completed(row, thread_id=f"resp_{row}_{number}", run_id=f"resp_{row}_{number}", **fields)


def readings(path: Path) -> list[Any]:
    """Return what every reader of attempts finds."""
    with FollowedJournal(path) as followed:
        changes = followed.changes()
        assert changes is not None
        found: list[Any] = [changes.attempts, followed.past(["0", "1"])]
    with Journal(path) as journal:
        rows = [str(row) for row in range(4)]
        found += [[dict(each) for each in journal.attempts(row)] for row in rows]
        found += [journal.history(row) for row in rows]
        found += [journal.cells(row, prompt(int(row)).fingerprint) for row in rows]
        found += [journal.may_have_cost(), journal.counts()]
        journal.created.gather(RESPONSES, "0")
        found.append(list(journal.created.left("https://x/v1", of_rows=True, followed=False)))
        journal.created.gather(RESPONSES)
        found.append(list(journal.created.left("https://x/v1", of_rows=True, followed=True)))
    return found


def retried(path: Path, with_ids: bool) -> None:
    with Journal(path) as journal:
        write(journal, answered(0), with_ids=with_ids)
        write(journal, answered(1), with_ids=with_ids)
    with Journal(path) as journal:  # with a history: another outcome replaces the first
        write(journal, answered(0, 2), 2, with_ids=with_ids)
        journal.begin_attempt(prompt(1), attempt(2), NOON)


def failures_forgotten(path: Path, with_ids: bool) -> None:
    with Journal(path) as journal:
        write(journal, failed(thread_id="resp_0", run_id="resp_0"), with_ids=with_ids)
        journal.forget_failures()


def shared(path: Path, with_ids: bool) -> None:
    with Journal(path) as journal:
        for row in range(2):
            write(journal, answered(row), with_ids=with_ids)
        fingerprint = prompt(0).fingerprint
        journal.duplicates.begin()
        journal._db.write("INSERT INTO duplicates VALUES ('1', ?, '0')", (fingerprint,))
        journal.duplicates.share()


def from_a_cache(path: Path, with_ids: bool) -> None:
    """The answer of another batch replaces an outcome, with ids that are not the attempt's."""
    with Journal(path) as journal:
        write(journal, answered(0), with_ids=with_ids)
    with Journal(path) as journal:
        journal.finish(answered(0, 9, attempts=1), "other", carried=Carried(Usage(), None))


def failed_without_usage(path: Path, with_ids: bool) -> None:
    with Journal(path) as journal:
        write(journal, failed(thread_id="resp_0", run_id="resp_0"), with_ids=with_ids)


@pytest.mark.parametrize("history", [retried, failures_forgotten, shared, from_a_cache, failed_without_usage])
def test_every_reader_finds_the_ids(tmp_path: Path, history: Callable[[Path, bool], None]) -> None:
    """Attempts, histories, reports and the objects to delete are those of a journal that has the ids twice."""
    paths = tmp_path / "once", tmp_path / "twice"
    for path, with_ids in zip(paths, (True, False), strict=True):
        history(path, with_ids)
    assert readings(paths[0]) == readings(paths[1])


def test_no_second_write(journal: Journal) -> None:
    """Ids that come with the outcome cost no write to the attempt."""
    before = journal._db.one("SELECT total_changes()")[0]
    write(journal, answered(0), with_ids=True)
    assert journal._db.one("SELECT total_changes()")[0] - before == 2
    assert journal._db.one("SELECT run_id FROM attempts")[0] is None
    assert [each["run_id"] for each in journal.attempts("0")] == ["resp_0_1"]
