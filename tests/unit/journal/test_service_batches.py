"""Request lines and service batches in the journal."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrun.journal import Journal
from batchrun.journal.schema import STEPS
from batchrun.journal.service_batches import NewLine, ServiceBatches, StoredResult, is_custom_id, line_of
from batchrun.records import Attempt
from tests.support.rows import NOON, completed, prompt

SINCE = next(number for number, step in enumerate(STEPS, 1) if "service_batches" in step)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "out.csv.journal") as opened:
        yield opened


@pytest.fixture
def lines(journal: Journal) -> ServiceBatches:
    return journal.service_batches


def custom_id(line: int) -> str:
    return f"row{line}-turn1-attempt1-{line}"


def added(lines: ServiceBatches, number: int, model: str = "m-1") -> list[int]:
    """Add lines of rows `0`, `1`, …; return their numbers."""
    found = []
    for _ in range(number):
        line = lines.next_line()
        lines.add(NewLine(line, custom_id(line), str(line - 1), 1, "/v1/responses", model, b"{}"))
        found.append(line)
    return found


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("row0-turn1-attempt1-7", 7),
        ("row12-turn3-attempt20-123456", 123456),
        ("row0-turn1-attempt1-99999999999999999999", None),
        ("row0-turn1-attempt1-٧", None),
        ("resp_123", None),
        ("xrow0-turn1-attempt1-7", None),
        (None, None),
        (7, None),
    ],
)
def test_custom_ids_are_recognised(text: object, line: int | None) -> None:
    """A custom id names its line; no id of a service is taken for one."""
    assert line_of(text) == line
    if line is not None:
        assert is_custom_id(str(text))


def test_a_line_waits_is_open_and_ends(lines: ServiceBatches) -> None:
    """The state of a line follows its service batch; a line without a result ends with it."""
    first, second = added(lines, 2)
    assert lines.line_state(custom_id(first)) == "waiting"
    batch = lines.prepare("here", "/v1/responses", "m-1", [first, second], NOON)
    assert lines.line_state(custom_id(first)) == "open"
    lines.keep_results(batch.number, [StoredResult(first, custom_id(first), 2, b"answer")])
    lines.record(batch.number, NOON, collected_at="2026-11-23", lacking="batch_expired", reason="too late")
    assert [lines.line_state(custom_id(each)) for each in (first, second, 3)] == ["ended", "ended", None]
    several = [custom_id(each) for each in (first, second, 3)]
    assert lines.line_states([*several, None]) == {several[0]: "ended", several[1]: "ended"}
    found = lines.find(custom_id(second))
    assert found is not None
    assert (found.result, found.lacking, found.reason) == (None, "batch_expired", "too late")
    assert lines.due_rows() == {"0", "1"}
    assert lines.open("here") == []


def test_lines_of_a_dropped_batch_wait_again(lines: ServiceBatches) -> None:
    """Refused lines end with the service's reply, the others wait."""
    first, second, third = added(lines, 3)
    batch = lines.prepare("here", "/v1/responses", "m-1", [first, second, third], NOON)
    lines.drop(batch, NOON, "bad line", [(second, b"refused")])
    assert [each.line for each in lines.waiting([third, first, second, first])] == [first, third]
    assert lines.line_state(custom_id(second)) == "ended"
    assert lines.all()[0].status == "dropped"


def test_numbers_of_lines_continue(tmp_path: Path) -> None:
    """Another process uses no number again."""
    for expected in (1, 3):
        with Journal(tmp_path / "out.csv.journal") as journal:
            assert added(journal.service_batches, 2)[0] == expected


def test_results_are_forgotten_when_their_rows_have_taken_them(journal: Journal, lines: ServiceBatches) -> None:
    """Results stay until the row has its outcome or another attempt: a crash before that loses nothing."""
    first, second, third = added(lines, 3)
    for row, line in enumerate((first, second, third)):
        journal.begin_attempt(prompt(row), Attempt(1, 1, "key"), NOON)
        journal.set_ids(str(row), 1, None, custom_id(line))
    batch = lines.prepare("here", "/v1/responses", "m-1", [first, second, third], NOON)
    lines.keep_results(batch.number, [StoredResult(each, custom_id(each), 2, b"a") for each in (first, second, third)])
    lines.record(batch.number, NOON, collected_at="2026-11-23")
    journal.finish(completed(0), "fp")
    journal.set_ids("1", 1, "resp_1", "resp_1")
    lines.tidy()
    assert lines.due_rows() == {"2"}
    kept = [lines.find(custom_id(each)) for each in (first, second, third)]
    assert [each.result for each in kept if each is not None] == [None, None, b"a"]


def test_a_journal_of_an_earlier_version_has_no_service_batches(tmp_path: Path) -> None:
    """A journal of an earlier version is read as it is, and migrated when it is opened for writing."""
    path = tmp_path / "out.csv.journal"
    Journal(path).close()
    connection = sqlite3.connect(path)
    connection.executescript(f"DROP TABLE service_batches; DROP TABLE request_lines; PRAGMA user_version={SINCE - 1};")
    connection.close()
    with Journal(path, read_only=True) as journal:
        assert journal.service_batches.all() == []
        assert journal.service_batches.due_rows() == set()
        assert journal.service_batches.line_state(custom_id(1)) is None
    if len(STEPS) == SINCE:
        with Journal(path) as journal:
            assert added(journal.service_batches, 1) == [1]
