"""A journal that is read while it is written: every change is reported once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import ServerFault
from batchrun.journal import Journal
from batchrun.journal.live import CoolDown, FollowedJournal, RecordedRun
from batchrun.journal.schema import APPLICATION_ID, STEPS
from batchrun.records import CallKey, Reply, RunEnd, ToolCall, ToolOutput
from batchrun.token_usage import Usage
from tests.support.rows import NOON, attempt, completed, failed, outcome_cells, prompt


@pytest.fixture
def journal(journal: Journal) -> Journal:
    """A journal of a batch of three rows."""
    journal.write_manifest({"batch_id": "b", "settings": {}, "rows": 3})
    return journal


@pytest.fixture
def followed(journal: Journal) -> Iterator[FollowedJournal]:
    with FollowedJournal(journal.path) as followed:
        yield followed


def ended(followed: FollowedJournal) -> list[str]:
    changes = followed.changes()
    return [] if changes is None else [each.row_key for each in changes.outcomes]


def run_end(number: int, turn: int, asked: str, response: str, **more: Any) -> RunEnd:
    reply = Reply("completed", response, Usage(), "m", **more)
    return RunEnd(number, turn, number, asked, reply, "t", f"r{number}")


def test_a_row_of_several_runs_has_its_conversation(journal: Journal, followed: FollowedJournal) -> None:
    """Functions asked for with their arguments, what came of them, citations; only of the prompt that was answered."""
    call = ToolCall("c1", "add", '{"a": 2}')
    cited = {"citations": [{"filename": "a.pdf"}]}
    journal.run_ended("0", "fp", run_end(1, 1, "2+2?", "", calls=(call,)))
    journal.run_ended("0", "fp", run_end(2, 1, "4", "It is 4.", extras=cited))
    journal.run_ended("0", "another", run_end(1, 1, "x", "y"))
    journal.finish(completed(), "fp")
    # A run that waits for its functions is one run, and knows by its id what they returned.
    journal.run_ended("1", "fp", run_end(3, 1, "2+3?", "It is 5."))
    journal.exchanges.add_output("1", "fp", 1, CallKey("r3", 0, "c2"), ToolOutput("c2", "5", failed=False))
    journal.finish(completed(1), "fp")
    journal.run_ended("2", "fp", run_end(4, 1, "1+1?", "2"))
    journal.finish(completed(2), "fp")
    assert followed.past(["0", "1", "2"]).runs == {
        "0": [
            RecordedRun(1, "2+2?", "", (("add", '{"a": 2}'),)),
            RecordedRun(1, "4", "It is 4.", (), (), cited),
        ],
        "1": [RecordedRun(1, "2+3?", "It is 5.", (), ["5"])],
    }


def test_cool_downs_are_returned_in_order(journal: Journal, followed: FollowedJournal) -> None:
    """When, how long, and why."""
    assert followed.cool_downs() == []
    journal.cooled_down(NOON, 20.0, "rate_limit_exceeded")
    journal.cooled_down(NOON, 0.5, "no tokens left")
    assert followed.cool_downs() == [
        CoolDown("2026-11-23T12:00:00.000+00:00", 20.0, "rate_limit_exceeded"),
        CoolDown("2026-11-23T12:00:00.000+00:00", 0.5, "no tokens left"),
    ]


def test_a_journal_from_before_cool_downs_were_recorded(tmp_path: Path) -> None:
    """Unrecorded cool-downs are None, not an empty list."""
    path = tmp_path / "old.journal"
    db = sqlite3.connect(path)
    db.executescript(f"{STEPS[0]}; {STEPS[1]}; PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version=2;")
    db.close()
    with FollowedJournal(path) as followed:
        assert followed.cool_downs() is None


def test_nothing_new_is_nothing(journal: Journal, followed: FollowedJournal) -> None:
    """The first look reports a new batch; a look without a write before it returns None."""
    first = followed.changes()
    assert first is not None
    assert first.is_new_batch
    assert followed.changes() is None


def test_an_outcome_is_reported_once_with_its_attempts(journal: Journal, followed: FollowedJournal) -> None:
    """Cells are those of the output, attempts have their faults, and neither is reported again."""
    followed.changes()
    journal.begin_attempt(prompt(), attempt(1), NOON)
    journal.record_fault("0", 1, ServerFault("502", error_type="server_error"))
    journal.begin_attempt(prompt(), attempt(2), NOON)
    running = followed.changes()
    assert running is not None
    assert not running.is_new_batch
    assert [(each.number, each.fault_type, each.may_be_running) for each in running.attempts["0"]] == [
        (1, "server_error", False),
        (2, None, True),
    ]
    journal.finish(completed(), "fp")
    done = followed.changes()
    assert done is not None
    assert [(each.row_key, each.fingerprint) for each in done.outcomes] == [("0", "fp")]
    assert done.outcomes[0].cells == outcome_cells(completed())
    assert len(done.attempts["0"]) == 2
    journal.finish(completed(1), "fp")
    again = followed.changes()
    assert again is not None
    assert [each.row_key for each in again.outcomes] == ["1"]
    assert "0" not in again.attempts


def test_a_row_that_is_run_again_is_reported_again(tmp_path: Path) -> None:
    """SQLite may give the number of a superseded outcome to another: no row is missed by that."""
    path = tmp_path / "a.journal"
    with Journal(path) as journal:
        journal.write_manifest({"settings": {}})
        for row in range(4):
            journal.finish(failed(row), "fp")
    # A journal that has a history looks outcomes up, and supersedes.
    with Journal(path) as journal, FollowedJournal(path) as followed:
        assert ended(followed) == ["0", "1", "2", "3"]
        journal.finish(completed(2), "fp")
        assert ended(followed) == ["2"]
        journal.finish(completed(2, "5"), "fp")
        journal.finish(completed(9), "fp")
        assert sorted(ended(followed)) == ["2", "9"]
        journal.finish(completed(9), "fp")
        journal.finish(completed(10), "fp")
        journal.finish(completed(0), "fp")
        assert sorted(ended(followed)) == ["0", "10", "9"]
        assert ended(followed) == []


def test_another_batch_starts_from_scratch(journal: Journal, followed: FollowedJournal) -> None:
    """Other settings are another batch; a batch's own notes in the manifest are not."""
    journal.finish(completed(), "fp")
    followed.changes()
    journal.write_manifest({"prices": []})
    noted = followed.changes()
    assert noted is not None
    assert not noted.is_new_batch
    journal.write_manifest({"settings": {"model": "other"}})
    other = followed.changes()
    assert other is not None
    assert other.is_new_batch
    assert [each.row_key for each in other.outcomes] == ["0"]


def test_attempts_and_ends_of_some_rows(journal: Journal, followed: FollowedJournal) -> None:
    """For a report: every attempt at the rows, and when they ended."""
    for row in (0, 1):
        journal.begin_attempt(prompt(row), attempt(1), NOON)
    journal.finish(completed(1), "fp")
    past = followed.past(["0", "1"])
    assert {row: len(tries) for row, tries in past.attempts.items()} == {"0": 1, "1": 1}
    assert (list(past.ended_at), past.runs) == (["1"], {})
