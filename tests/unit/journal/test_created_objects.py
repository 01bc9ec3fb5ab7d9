"""What a batch made at services: which objects the journal knows of, where, and what of them is left."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import ServiceFault
from batchrun.journal import Created, Journal, open_journal
from batchrun.journal.schema import APPLICATION_ID, STEPS
from tests.support.rows import NOON, attempt, completed, none_strange, noon, prompt

HERE = "http://127.0.0.1:1/v1"


def manifest(api: str = "assistants", base_url: str | None = HERE, **settings: Any) -> dict[str, Any]:
    return {"settings": {"api": api, **settings}, "base_url": base_url, "input_fingerprint": "i", "rows": 2}


def opened(path: Path, wanted: Mapping[str, Any] | None = None) -> Journal:
    return open_journal(path, wanted or manifest(), accept_changes=True, count_strange=none_strange, clock=noon)


def tried(journal: Journal, row: int, number: int, thread_id: str | None, run_id: str | None, fault: bool) -> None:
    journal.begin_attempt(prompt(row), attempt(number), NOON)
    journal.set_ids(str(row), number, thread_id, run_id)
    if fault:
        journal.record_fault(str(row), number, ServiceFault("broke", error_type="server_error", run_ended=True))


def left(journal: Journal, place: str = HERE, followed: bool = True) -> set[tuple[str, str]]:
    created = journal.created
    return {
        (made.kind, made.object_id)
        for of_rows in (True, False)
        for made in created.left(place, of_rows=of_rows, followed=followed)
    }


def test_every_try_leaves_a_thread(tmp_path: Path) -> None:
    """Threads of failed attempts are known, not only the one of the outcome."""
    with opened(tmp_path / "j") as journal:
        tried(journal, 0, 1, "thread_a", "run_a", fault=True)
        tried(journal, 0, 2, "thread_b", "run_b", fault=False)
        tried(journal, 1, 1, None, None, fault=True)
        journal.created.gather(manifest())
        assert left(journal) == {("thread", "thread_a"), ("thread", "thread_b")}


def test_a_response_is_a_thread_of_its_own_or_in_a_conversation(tmp_path: Path) -> None:
    """The chain that a response begins is not a further object; a Conversation is one, even without a known response."""
    with opened(tmp_path / "j", manifest("responses")) as journal:
        tried(journal, 0, 1, "resp_a", "resp_a", fault=False)
        tried(journal, 1, 1, "conv_b", None, fault=True)
        tried(journal, 1, 2, "conv_c", "resp_c", fault=False)
        journal.created.gather(manifest("responses"))
        assert left(journal) == {
            ("response", "resp_a"),
            ("response", "resp_c"),
            ("conversation", "conv_b"),
            ("conversation", "conv_c"),
        }


def test_a_completion_leaves_nothing(tmp_path: Path) -> None:
    """Chat completions have ids and no objects."""
    with opened(tmp_path / "j", manifest("chat")) as journal:
        tried(journal, 0, 1, None, "chatcmpl-1", fault=False)
        journal.created.gather(manifest("chat"))
        assert left(journal) == set()


def test_what_is_deleted_is_left_no_more(tmp_path: Path) -> None:
    """A deletion stays recorded, however often the attempts are read, and in another process too."""
    with opened(tmp_path / "j") as journal:
        tried(journal, 0, 1, "thread_a", "run_a", fault=False)
        journal.created.gather(manifest())
        journal.created.deleted("thread_a", NOON)
    with opened(tmp_path / "j") as journal:
        journal.created.gather(manifest())
        assert left(journal) == set()


def test_a_row_is_gathered_alone(tmp_path: Path) -> None:
    """Deleting as rows end touches the row that ended and no other."""
    with opened(tmp_path / "j") as journal:
        tried(journal, 0, 1, "thread_a", "run_a", fault=False)
        tried(journal, 1, 1, "thread_b", "run_b", fault=False)
        journal.created.gather(manifest(), "0")
        assert journal.created.of_row("0", HERE) == [Created("thread", "thread_a", "0")]
        assert journal.created.of_row("1", HERE) == []


def test_rows_in_flight_keep_what_they_need(tmp_path: Path) -> None:
    """Objects that the next run needs are kept: their row has no outcome, or an attempt after its outcome."""
    with opened(tmp_path / "j") as journal:
        for row in range(4):
            tried(journal, row, 1, f"thread_{row}", f"run_{row}", fault=row == 2)
        journal.finish(completed(1), "fp")
        journal.finish(completed(3), "fp")
        tried(journal, 3, 2, "thread_3b", "run_3b", fault=False)
        journal.created.gather(manifest())
        assert left(journal, followed=False) == {("thread", "thread_1"), ("thread", "thread_2")}
        assert journal.created.count(HERE, of_rows=True, followed=True) == 5


@pytest.mark.parametrize("moved", [manifest(base_url="http://127.0.0.1:2/v1"), manifest("responses", embedded=True)])
def test_a_batch_that_moves_leaves_its_objects_behind(tmp_path: Path, moved: dict[str, Any]) -> None:
    """Objects stay known under the service that has them: another one's 404 must not count as a deletion."""
    with opened(tmp_path / "j") as journal:
        tried(journal, 0, 1, "thread_a", "run_a", fault=True)
    with opened(tmp_path / "j", moved) as journal:
        tried(journal, 0, 2, "conv_b", "resp_b", fault=False)
        journal.created.gather(moved)
        assert left(journal) == {("thread", "thread_a")}
        place = "embedded" if moved["settings"].get("embedded") else moved["base_url"]
        assert "thread_a" not in {object_id for _, object_id in left(journal, place)}
        assert journal.created.elsewhere(place) == {HERE: 1}


def test_pages_are_walked_while_they_shrink(tmp_path: Path) -> None:
    """Every object is yielded once, even if each is deleted at once."""
    with opened(tmp_path / "j") as journal:
        for row in range(1_203):
            tried(journal, row, 1, f"thread_{row}", f"run_{row}", fault=True)
        journal.created.gather(manifest())
        met = []
        for made in journal.created.left(HERE, of_rows=True, followed=True):
            met.append(made.object_id)
            if len(met) % 3:
                journal.created.deleted(made.object_id, NOON)
        assert sorted(met) == sorted(f"thread_{row}" for row in range(1_203))
        assert journal.created.count(HERE, of_rows=True, followed=True) == 401


def test_a_journal_of_the_first_version_is_upgraded(tmp_path: Path) -> None:
    """A journal without the table gets it and loses nothing."""
    path = tmp_path / "j"
    db = sqlite3.connect(path)
    db.executescript(f"{STEPS[0]}; PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version=1;")
    db.execute("INSERT INTO manifest VALUES ('settings', '{\"api\": \"assistants\"}')")
    db.execute(
        "INSERT INTO attempts (row_key, number, generation, idempotency_key, fingerprint, started_at, thread_id) "
        "VALUES ('0', 1, 1, 'k', 'f', '2026-11-23T12:00:00.000+00:00', 'thread_old')"
    )
    db.commit()
    db.close()
    with Journal(path, read_only=True) as journal:
        assert journal.counts().in_flight == 1
    with Journal(path) as journal:
        history = journal.history("0")
        assert history is not None
        assert history.last is not None
        assert history.last.thread_id == "thread_old"
        journal.created.gather(journal.read_manifest())
        assert left(journal, "https://api.openai.com/v1") == {("thread", "thread_old")}
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (len(STEPS),)
    db.close()
