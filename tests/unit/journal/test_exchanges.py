"""The finished runs of rows that need several, and the outputs of functions."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from batchrun.errors import OutputError
from batchrun.journal import Carried, Journal
from batchrun.records import CallKey, Reply, ToolCall, ToolOutput
from batchrun.token_usage import Usage, sum_usage
from tests.support.ends import CALL, asking, ended
from tests.support.rows import NOON, attempt, completed, failed, prompt

USAGE = Usage(7, 3, 10, 2, 1, {"prompt_tokens": 7, "completion_tokens": 3, "nested": {"cached": 2}})
RICH = Reply(
    "incomplete",
    "half an ans\nwer",
    USAGE,
    "m-2026",
    "max_completion_tokens",
    extras={"citations": [{"file_id": "file_1"}], "files": []},
)


@pytest.mark.parametrize(
    "end",
    [
        ended(1, 1, "a"),
        ended(1, 1, RICH, attempt=4, thread_id=None, run_id=None),
        ended(2, 1, asking(CALL, ToolCall("call_2", "f", "no json at all"), text="let me see")),
        ended(1, 1, "", history=({"role": "user", "content": "q"}, {"role": "assistant", "content": None})),
    ],
    ids=["plain", "cut short", "calls", "messages"],
)
def test_recorded_exchanges_come_back(path: Path, journal: Journal, end: object) -> None:
    """All of a run that ended is there in the next process, but for what other tables hold."""
    journal.run_ended("0", "f", end)  # type: ignore[arg-type]
    with Journal(path, read_only=True) as later:
        assert later.exchanges.of_row("0", "f") == [end]


def test_runs_come_in_their_order(journal: Journal) -> None:
    """Runs are returned oldest first, even after the ninth."""
    for number in range(1, 13):
        journal.run_ended("0", "f", ended(number, number, str(number)))
    assert [end.number for end in journal.exchanges.of_row("0", "f")] == list(range(1, 13))


def test_rows_and_prompts_are_kept_apart(journal: Journal) -> None:
    """A run belongs to its row and to the prompt that it answered."""
    for row_key, fingerprint, text in (("0", "f", "a"), ("0", "g", "b"), ("1", "f", "c"), ("0|epoch=2", "f", "d")):
        journal.run_ended(row_key, fingerprint, ended(1, 1, text))
    assert journal.exchanges.answers("0", "f", 1) == {1: "a"}
    assert journal.exchanges.answers("0", "g", 1) == {1: "b"}
    assert journal.exchanges.answers("0|epoch=2", "f", 1) == {1: "d"}
    assert journal.exchanges.of_row("2", "f") == []


def test_answers_of_turns(journal: Journal) -> None:
    """A turn's answer is its last one; a run with function calls has none; turns that were left out are missing."""
    for end in (
        ended(1, 1, asking(text="let me see")),
        ended(2, 1, "first"),
        ended(3, 3, "no JSON", attempt=2),
        ended(4, 3, '{"a": 1}', attempt=3),
    ):
        journal.run_ended("0", "f", end)
    assert journal.exchanges.answers("0", "f", 3) == {1: "first", 3: '{"a": 1}'}


def test_answers_belong_to_their_own_outcome(journal: Journal) -> None:
    """Answers of attempts after the outcome belong to the next outcome."""
    journal.run_ended("0", "f", ended(1, 1, "a"))
    journal.run_ended("0", "f", ended(2, 2, "b", attempt=2))
    assert journal.exchanges.answers("0", "f", 1) == {1: "a"}


def test_ids_come_with_the_end(journal: Journal) -> None:
    """If a reply brings its ids, the attempt's ids and the run's end are written together."""
    journal.begin_attempt(prompt(0, fingerprint="f"), attempt(), NOON)
    journal.run_ended("0", "f", ended(1, 1, "a"), with_ids=True)
    assert [(each["thread_id"], each["run_id"]) for each in journal.attempts("0")] == [("thread_1", "run_1")]


def test_half_a_character(journal: Journal) -> None:
    """A service may send half of a character: it is stored as a question mark, and nothing is refused."""
    end = replace(ended(1, 1, "\ud83d!"), asked="\ude00?", history=({"role": "user", "content": "\ud83d"},))
    journal.run_ended("0", "f", end)
    (kept,) = journal.exchanges.of_row("0", "f")
    assert (kept.reply.response, kept.asked) == ("?!", "??")
    assert kept.history == end.history


def test_a_journal_that_cannot_be_written(journal: Journal) -> None:
    """A run's end that cannot be kept is an error that says so, and nothing of it is kept."""
    journal.begin_attempt(prompt(0, fingerprint="f"), attempt(), NOON)
    journal._db.write("DROP TABLE exchanges")
    with pytest.raises(OutputError, match="the journal cannot be used"):
        journal.run_ended("0", "f", ended(1, 1, "a"), with_ids=True)
    assert [each["run_id"] for each in journal.attempts("0")] == [None]
    journal.begin_attempt(prompt(1, fingerprint="f"), attempt(), NOON)


# -- outputs of functions -----------------------------------------------------------------------------------------


def test_outputs_come_back(journal: Journal) -> None:
    """What a function returned, or why it failed, is there for the row and the prompt that it was called for."""
    first, second = CallKey("run_1", 0, "call_1"), CallKey("2", 1, "call_1")
    journal.exchanges.add_output("0", "f", 1, first, ToolOutput("call_1", "4"))
    journal.exchanges.add_output("0", "f", 2, second, ToolOutput("call_1", "no luck \ud83d", failed=True))
    journal.exchanges.add_output("0", "g", 1, first, ToolOutput("call_1", "5"))
    assert journal.exchanges.outputs_of_row("0", "f") == {
        first: ToolOutput("call_1", "4"),
        second: ToolOutput("call_1", "no luck ?", failed=True),
    }
    assert journal.exchanges.outputs_of_row("0", "f", 2) == {first: ToolOutput("call_1", "4")}
    assert journal.exchanges.outputs_of_row("1", "f") == {}


def test_calls_of_one_name(journal: Journal) -> None:
    """Some servers give every call the same id, or none: calls are distinguished nevertheless."""
    end = ended(3, 1, asking(ToolCall("", "f", "1"), ToolCall("", "f", "2")))
    for position, key in enumerate(end.calls_by_key()):
        journal.exchanges.add_output("0", "f", 1, key, ToolOutput("", str(position)))
    kept = journal.exchanges.outputs_of_row("0", "f")
    assert [kept[key].text for key in end.calls_by_key()] == ["0", "1"]


# -- redone turns ---------------------------------------------------------------------------------------------------


def told(journal: Journal, *turns: int) -> None:
    for number, turn in enumerate(turns, start=1):
        journal.run_ended("0", "f", ended(number, turn, f"a{turn}"))
        journal.exchanges.add_output("0", "f", turn, CallKey(str(number), 0, "c"), ToolOutput("c", f"o{turn}"))


def test_a_turn_is_run_again(path: Path, journal: Journal) -> None:
    """Once the new attempt is on disk, earlier runs of the turn and later turns do not count; none is lost."""
    told(journal, 1, 2, 3)
    journal.begin_attempt(prompt(0, fingerprint="f"), attempt(4), NOON, 2, redo_from_turn=2)
    assert journal.exchanges.answers("0", "f", 9) == {1: "a1"}
    assert list(journal.exchanges.outputs_of_row("0", "f").values()) == [ToolOutput("c", "o1")]
    assert journal.exchanges.answers("0", "f/4", 9) == {2: "a2", 3: "a3"}
    journal.run_ended("0", "f", ended(2, 2, "new", attempt=4))
    journal.begin_attempt(prompt(0, fingerprint="f"), attempt(5), NOON, 2, redo_from_turn=2)
    assert journal.exchanges.answers("0", "f/5", 9) == {2: "new"}


def test_setting_aside_and_the_attempt_are_one_transaction(path: Path, journal: Journal) -> None:
    """If the attempt cannot be written, nothing is set aside."""
    told(journal, 1, 2)
    journal.begin_attempt(prompt(0, fingerprint="f"), attempt(1), NOON)
    with pytest.raises(OutputError):
        journal.begin_attempt(prompt(0, fingerprint="f"), attempt(1), NOON, 1, redo_from_turn=1)
    assert journal.exchanges.answers("0", "f", 9) == {1: "a1", 2: "a2"}


# -- what a retry takes over ---------------------------------------------------------------------------------------


def raw(tokens: int) -> Usage:
    return Usage(tokens, 1, tokens + 1, 0, 0, {"prompt_tokens": tokens, "completion_tokens": 1})


def replaced(path: Path) -> tuple[object, ...]:
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        row = db.execute(
            "SELECT prompt_tokens, completion_tokens, total_tokens, raw_usage, cost_usd FROM superseded"
        ).fetchone()
        return tuple(row)


def finished_again(path: Path, before: Usage, cost_usd: float | None, carried: Carried) -> None:
    with Journal(path) as journal:
        journal.finish(failed(0, usage=before, cost_usd=cost_usd), "f")
    with Journal(path) as journal:
        journal.finish(completed(0, attempts=6, cost_usd=None), "f", carried=carried)


def test_carried_usage_is_counted_once(path: Path) -> None:
    """If a failed row runs again from its second turn, the first turn's cost moves to the new outcome."""
    finished_again(path, sum_usage([raw(5), raw(7)]), 0.75, Carried(raw(5), 0.5))
    assert replaced(path) == (7, 1, 8, '{"prompt_tokens": 7, "completion_tokens": 1}', 0.25)


def test_no_usage_is_left(path: Path) -> None:
    """If all runs move, the earlier outcome's cost is zero, and never less."""
    finished_again(path, raw(5), 0.5, Carried(raw(5), 0.6))
    assert replaced(path) == (0, 0, 0, None, 0.0)


def test_unknown_costs_stay_unknown(path: Path) -> None:
    """Unknown costs and counts stay unknown."""
    finished_again(path, replace(raw(5), total_tokens=None), None, Carried(Usage(2), None))
    prompt_tokens, completion_tokens, total_tokens, _, cost_usd = replaced(path)
    assert (prompt_tokens, completion_tokens, total_tokens, cost_usd) == (3, 1, None, None)
