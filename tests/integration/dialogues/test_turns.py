"""Rows of several turns: one thread, one run per turn, and no turn twice, whenever the batch is killed."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from batchrun.server.responders.base import Conversation, ResponderError
from tests.integration.dialogues.bench import MODES, READ, Bench, each_mode, each_protocol, opened

TURNS = ("--prompt", "{{ question }}", "--prompt", "more of {{ responses[0] }}", "--prompt", "<said>")


def expected(question: str) -> list[str]:
    """Return the answers of the three turns."""
    second = f"more of {question}"
    return [question, second, f"{question} / {question} / {second} / {second}"]


def assert_told(bench: Bench, questions: list[str]) -> None:
    """Check that every row has its three answers, and that each turn was requested once."""
    rows = bench.rows()
    assert [[row[f"response_{turn}"] for turn in (1, 2, 3)] for row in rows] == [expected(each) for each in questions]
    assert [row["response"] for row in rows] == [row["response_3"] for row in rows]
    assert {row["status"] for row in rows} == {"completed"}
    turns = bench.journal("SELECT row_key, turn FROM exchanges ORDER BY CAST(row_key AS INTEGER), number")
    assert turns == [(str(row), turn) for row in range(len(questions)) for turn in (1, 2, 3)]
    assert bench.responder.asked_twice() == []
    assert len(bench.responder.asked) == 3 * len(questions)


@each_mode
def test_turns_follow_one_another_on_one_thread(bench: Bench, mode: str) -> None:
    """In every protocol, a turn sees the earlier ones, and the row has all answers."""
    bench.ask("one", "two", "three")
    bench.resumed(*MODES[mode], *TURNS)
    assert_told(bench, ["one", "two", "three"])
    bench.assert_billed(mode, 3)
    assert {tokens for (tokens,) in bench.journal("SELECT prompt_tokens FROM exchanges")} == {READ}


@each_mode
def test_killed_in_a_turn(bench: Bench, mode: str) -> None:
    """A row killed during its second turn continues with it: no turn is requested twice."""
    bench.ask("one", "two")
    options = (*MODES[mode], *TURNS)
    bench.responder.held = lambda conversation: conversation.messages[-1].text.startswith("more of")
    bench.killed(lambda: len(bench.responder.asked) == 4, *options)
    bench.responder.held = lambda _: False
    bench.resumed(*options)
    assert_told(bench, ["one", "two"])
    bench.assert_billed(mode, 3)


def test_one_thread_a_row_and_one_run_a_turn(bench: Bench) -> None:
    """The server's own file has one thread per row and one run per turn, after a kill in each turn."""
    bench.ask("one", "two")
    options = (*MODES["assistants"], *TURNS)
    for asked in (1, 3, 5):
        bench.responder.held = lambda _, asked=asked: len(bench.responder.asked) >= asked  # type: ignore[misc]
        bench.killed(lambda asked=asked: len(bench.responder.asked) >= asked, *options)  # type: ignore[misc]
    bench.responder.held = lambda _: False
    bench.resumed(*options)
    assert_told(bench, ["one", "two"])
    records = bench.records()
    assert len(records.of("thread")) == 2
    runs = Counter(run["thread_id"] for run in records.of("run").values())
    assert runs == {row["thread_id"]: 3 for row in bench.rows()}


def test_killed_between_an_answer_and_the_next_turn(tmp_path: Path) -> None:
    """A batch killed at random moments, often between two turns, requests each turn once."""
    kill_at_random(tmp_path, rows=30, kills=5, seed=7, mode="assistants")


@pytest.mark.nightly
@pytest.mark.timeout(900)
@each_mode
def test_killed_at_many_random_moments(tmp_path: Path, mode: str) -> None:
    """The same test many times, in every mode."""
    kill_at_random(tmp_path, rows=200, kills=40, seed=11, mode=mode)


def kill_at_random(folder: Path, *, rows: int, kills: int, seed: int, mode: str) -> None:
    """Kill a batch repeatedly, each time after a random number of completions."""
    draw = random.Random(seed)
    options = (*MODES[mode], *TURNS, "--concurrency", "8")
    questions = [f"row {row}" for row in range(rows)]
    with opened(folder / "batch") as bench:
        bench.ask(*questions)
        for kill in range(kills):
            left = 3 * rows - bench.exchanges()
            goal = bench.exchanges() + draw.randint(0, max(1, 2 * left // (kills + 1 - kill)))
            goal = min(goal, 3 * rows - 1)
            bench.killed_after(bench.exchanges, goal, draw.uniform(0.0, 0.02), *options)
        bench.resumed(*options)
        assert_told(bench, questions)
        bench.assert_billed(mode, 3)


WHEN = """
[[turns]]
prompt = "{{ question }}"
[[turns]]
prompt = "why"
when = "'yes' in responses[0]"
[[turns]]
prompt = "last"
"""


@each_protocol
def test_a_turn_is_asked_only_when_its_condition_holds(bench: Bench, mode: str) -> None:
    """A skipped turn has no answer and costs nothing; a kill after it changes nothing."""
    bench.ask("yes", "no")
    bench.job(WHEN)
    bench.responder.held = lambda conversation: conversation.messages[-1].text == "last"
    bench.killed(lambda: len(bench.responder.asked) == 5, *MODES[mode])
    bench.responder.held = lambda _: False
    bench.resumed(*MODES[mode])
    rows = bench.rows()
    assert [[row[f"response_{turn}"] for turn in (1, 2, 3)] for row in rows] == [
        ["yes", "why", "last"],
        ["no", "", "last"],
    ]
    assert [row["prompt_tokens"] for row in rows] == [str(3 * READ), str(2 * READ)]
    assert bench.responder.asked_twice() == []


def test_a_later_turn_that_cannot_be_rendered(bench: Bench) -> None:
    """A turn that cannot be rendered fails its row, whose earlier answers and usage are kept."""
    bench.ask("1", "x")
    options = (*MODES["assistants"], "--prompt", "{{ question }}", "--prompt", "{{ 10 // (responses[0] | int) }}")
    bench.resumed(*options, exit_code=3)
    good, bad = bench.rows()
    assert (good["response_2"], good["status"]) == ("10", "completed")
    assert (bad["response_1"], bad["response_2"], bad["response"]) == ("x", "", "x")
    assert (bad["status"], bad["error_type"], bad["prompt_tokens"]) == ("failed", "template_error", str(READ))
    assert bad["error"].startswith("turn 2: the template fails on this row")


def test_failed_rows_are_asked_again_from_the_turn_that_failed(bench: Bench) -> None:
    """`--retry-failed` runs only turns without an answer."""
    bench.ask("one", "two")
    options = (*MODES["assistants"], *TURNS)
    refused = [True]

    def refuse(conversation: Conversation) -> bool:
        if refused and conversation.messages[-1].text == "more of two":
            raise ResponderError("no", code="invalid_prompt", status_code=400)
        return False

    bench.responder.held = refuse
    bench.resumed(*options, exit_code=3)
    assert [row["status"] for row in bench.rows()] == ["completed", "failed"]
    refused.clear()
    bench.resumed(*options, "--retry-failed")
    rows = bench.rows()
    assert [row["response_3"] for row in rows] == [
        expected("one")[2],
        "two / two / more of two / more of two / more of two",
    ]
    assert Counter(each.messages[-1].text for each in bench.responder.asked)["two"] == 1
    assert rows[1]["prompt_tokens"] == str(3 * READ)
