"""The next request of a row, from its finished runs: pure, so that every course of a dialogue is a list of ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from batchrun.engine.dialogue import CORRECTION, Dialogue, Misshapen, with_outputs
from batchrun.prompts.templates import PromptError
from batchrun.records import Exchange, Prompt, Reply, Row, RowSettings, RunEnd, ToolCall, ToolOutput, Turn
from batchrun.token_usage import Usage
from tests.support.ends import CALL, asking, ended
from tests.support.rows import prompt, prompter

MESSAGE = {"role": "user", "content": "q"}


def row(*turns: str | dict[str, str], **values: Any) -> Prompt:
    """The prompt of a row with the column `q`."""
    given = [each if isinstance(each, dict) else {"prompt": each} for each in turns]
    cells = {"q": "Q", **values}
    return prompter([""], list(cells), turns=given).render(Row(0, cells))


def asked(exchange: Exchange | None) -> tuple[int, str] | None:
    return None if exchange is None else (exchange.turn.number, exchange.turn.text)


def upper(answer: str) -> str | None:
    return None if answer.isupper() else f"{answer!r} is not in capitals"


# -- turns --------------------------------------------------------------------------------------------------------


def test_the_first_turn() -> None:
    """A new row begins a thread with its first turn."""
    assert Dialogue(prompt(3, "why?")).next() == Exchange("3", Turn("why?"), row_index=3)


def test_one_answer_is_all() -> None:
    """A row with one turn is done when it is answered, completely or not."""
    for reply in (Reply("completed", "a"), Reply("incomplete", "a", reason="max_completion_tokens")):
        dialogue = Dialogue(prompt(), [ended(1, 1, reply)])
        assert dialogue.next() is None
        assert dialogue.answer() == reply


def test_turns_continue_the_thread() -> None:
    """The next turn sees the earlier answers, and continues after the last run."""
    ends = [ended(1, 1, "A1", thread_id="t", run_id="r", history=(MESSAGE,))]
    exchange = Dialogue(row("{{ q }}", "{{ q }}: {{ responses[0] }}"), ends).next()
    assert exchange is not None
    assert exchange == Exchange("0", Turn("Q: A1", 2), thread_id="t", previous_id="r", history=(MESSAGE,))


def test_turns_that_are_left_out() -> None:
    """A turn whose condition does not hold is skipped; later turns see "" for it, and keep their numbers."""
    turns = row("one", {"prompt": "two", "when": "responses[0] == 'yes'"}, "three {{ responses | length }}")
    assert asked(Dialogue(turns, [ended(1, 1, "no")]).next()) == (3, "three 2")
    assert asked(Dialogue(turns, [ended(1, 1, "yes")]).next()) == (2, "two")
    after = Dialogue(turns, [ended(1, 1, "no"), ended(2, 3, "end")])
    assert after.next() is None
    assert after.responses(3) == ["no", "", "end"]


def test_the_last_turns_are_left_out() -> None:
    """A row whose remaining conditions do not hold has its answer."""
    turns = row("one", {"prompt": "two", "when": "false"}, {"prompt": "three", "when": "responses[1]"})
    dialogue = Dialogue(turns, [ended(1, 1, "only")])
    assert dialogue.next() is None
    assert dialogue.answer().response == "only"


@pytest.mark.parametrize(
    ("turn", "error_type"),
    [
        ("{{ responses[5].x }}", "template_error"),
        ("{{ 1 // (responses[0] | int) }}", "template_error"),
        (" {{ '' }} ", "empty_prompt"),
        ({"prompt": "x", "when": "responses[0] // 2"}, "template_error"),
    ],
)
def test_a_turn_that_cannot_be_asked(turn: str | dict[str, str], error_type: str) -> None:
    """The error names the turn, whether its text or its condition fails."""
    with pytest.raises(PromptError, match=r"^turn 2: ") as caught:
        Dialogue(row("one", turn), [ended(1, 1, "0")]).next()
    assert caught.value.error_type == error_type


def test_a_thread_that_is_continued() -> None:
    """The first turn continues the thread that the table names, and the next one continues after that run."""
    given = replace(prompt(), thread_id="conv_9")
    assert Dialogue(given).next() == Exchange("0", given.first, thread_id="conv_9", previous_id="conv_9")
    two = replace(row("one", "two"), thread_id="conv_9")
    exchange = Dialogue(two, [ended(1, 1, "a", thread_id="conv_9", run_id="resp_1")]).next()
    assert exchange is not None
    assert (exchange.thread_id, exchange.previous_id) == ("conv_9", "resp_1")


def test_the_variant_goes_along() -> None:
    """Every exchange of a row has the row's combination of settings."""
    two = replace(row("one", "two"), variant=3)
    for ends in ([], [ended(1, 1, "a")], [ended(1, 1, asking())]):
        exchange = Dialogue(two, ends).next()
        assert exchange is not None
        assert exchange.variant == 3


# -- functions ----------------------------------------------------------------------------------------------------


def test_calls_that_were_not_answered() -> None:
    """In a resumed batch, a turn whose function calls were not answered is repeated, from that run on."""
    end = ended(1, 1, asking(), thread_id="t", run_id="r", history=(MESSAGE,))
    exchange = Dialogue(prompt(), [end]).next()
    assert exchange == Exchange("0", Turn("question 1"), thread_id="t", previous_id="r", history=(MESSAGE,), round=1)


@pytest.mark.parametrize(
    ("replies", "round_"),
    [
        ([asking()], 1),
        ([asking(), asking()], 2),
        ([asking(), "no JSON", asking()], 1),
        (["one", asking(), asking(), asking()], 3),
    ],
    ids=["first", "second", "behind a correction", "in a later turn"],
)
def test_rounds_are_counted_from_the_last_message(replies: Sequence[str | Reply], round_: int) -> None:
    """The round is part of a request's key: it must be the same before and after a kill."""
    turn = 1
    ends: list[RunEnd] = []
    for number, reply in enumerate(replies, start=1):
        ends.append(ended(number, turn, reply))
        turn += reply == "one"
    exchange = Dialogue(row("one", "two"), ends).next()
    assert exchange is not None
    assert exchange.round == round_


def test_outputs_take_the_place_of_the_message() -> None:
    """The exchange after a call has the outputs, the run that asked for them, and the messages so far."""
    end = ended(1, 1, asking(text="let me see"), thread_id="t", run_id="r", history=(MESSAGE,))
    output = (ToolOutput("call_1", "2"),)
    exchange = with_outputs(Exchange("0", Turn("q"), round=1), end, output)
    assert exchange == Exchange(
        "0", Turn("q"), thread_id="t", previous_id="r", history=(MESSAGE,), outputs=output, round=1
    )


def test_a_run_that_waits_is_heard() -> None:
    """Its messages so far are part of the exchange, because the answer is its whole text."""
    waiting = ended(1, 1, replace(asking(waiting=True), history=(MESSAGE, MESSAGE)))
    assert with_outputs(Exchange("0", Turn("q"), partial=(MESSAGE,)), waiting, ()).partial == (MESSAGE, MESSAGE)


def test_an_answer_behind_calls() -> None:
    """The answer is that of the run without calls; runs with calls are not part of it."""
    ends = [ended(1, 1, asking(text="let me see")), ended(2, 1, "four")]
    dialogue = Dialogue(prompt(), ends)
    assert dialogue.next() is None
    assert dialogue.answer().response == "four"
    assert dialogue.responses(1) == ["four"]


# -- form ---------------------------------------------------------------------------------------------------------


def test_a_good_answer_is_not_corrected() -> None:
    """A row is done if its answer has the requested form."""
    assert Dialogue(prompt(), [ended(1, 1, "YES")], check=upper).next() is None


def test_corrections() -> None:
    """The model gets the problem, on the same thread and in the same turn, as often as is allowed."""
    dialogue = Dialogue(prompt(), check=upper, max_corrections=2)
    for number, answer in enumerate(("a", "b", "c"), start=1):
        exchange = dialogue.next()
        assert exchange is not None
        assert exchange.structured
        assert exchange.turn.number == 1
        assert (exchange.turn.text != "What is 2 + 2?") == (number > 1)
        dialogue.add(exchange, Reply("completed", answer), number, "t", f"r{number}")
    assert dialogue.ends[1].asked == CORRECTION.format(problem="'a' is not in capitals")
    assert dialogue.ends[2].asked == CORRECTION.format(problem="'b' is not in capitals")
    with pytest.raises(Misshapen, match="'c' is not in capitals"):
        dialogue.next()


def test_no_corrections() -> None:
    """If no correction is allowed, the first wrong answer ends the row."""
    with pytest.raises(Misshapen):
        Dialogue(prompt(), [ended(1, 1, "a")], check=upper).next()


def test_calls_are_not_corrections() -> None:
    """Rounds of functions do not count against the corrections."""
    ends = [ended(1, 1, asking()), ended(2, 1, "a"), ended(3, 1, asking()), ended(4, 1, "b")]
    exchange = Dialogue(prompt(), ends, check=upper, max_corrections=2).next()
    assert exchange is not None
    assert "'b' is not in capitals" in exchange.turn.text


def test_only_the_last_turn_has_a_form() -> None:
    """Earlier turns may have any form, and no form is requested from them."""
    dialogue = Dialogue(row("one", "two"), check=upper, max_corrections=1)
    first = dialogue.next()
    assert first is not None
    assert not first.structured
    dialogue.add(first, Reply("completed", "small"), 1, "t", "r1")
    second = dialogue.next()
    assert second is not None
    assert (second.turn.number, second.structured) == (2, True)


def test_an_answer_that_was_cut_short_is_not_corrected() -> None:
    """It cannot have the form, and would be cut off again."""
    cut = Reply("incomplete", '{"a": ', reason="max_completion_tokens")
    assert Dialogue(prompt(), [ended(1, 1, cut)], check=upper, max_corrections=2).next() is None


def test_corrections_behind_a_resume() -> None:
    """Corrections before a kill count."""
    ends = [ended(1, 1, "a"), ended(2, 1, "b")]
    assert asked(Dialogue(prompt(), ends, check=upper, max_corrections=2).next()) == (
        1,
        CORRECTION.format(problem="'b' is not in capitals"),
    )
    with pytest.raises(Misshapen):
        Dialogue(prompt(), ends, check=upper, max_corrections=1).next()


# -- the whole ----------------------------------------------------------------------------------------------------


def test_cut_short_in_any_turn() -> None:
    """If the answer to one of the turns is incomplete, the row is incomplete for the same reason."""
    cut = Reply("incomplete", "half", reason="max_completion_tokens")
    dialogue = Dialogue(row("one", "two"), [ended(1, 1, cut), ended(2, 2, "whole")])
    assert dialogue.next() is None
    whole = dialogue.answer()
    assert (whole.response, whole.status, whole.reason) == ("whole", "incomplete", "max_completion_tokens")


def test_extras_of_all_runs() -> None:
    """Citations, files and reasoning of all runs follow one another; the rest is that of the last run."""
    first = {"citations": [1], "reasoning": "Hm.", "raw": {"id": 1}, "service_tier": "flex", "logprobs": [1]}
    replies = [
        Reply("completed", "a", extras=first),
        Reply("completed", "b"),
        Reply(
            "completed",
            "c",
            extras={"citations": [2, 3], "files": ["f"], "reasoning": "So.", "raw": [2], "logprobs": [2]},
        ),
    ]
    ends = [ended(number, number, reply) for number, reply in enumerate(replies, start=1)]
    joined = {"citations": [1, 2, 3], "files": ["f"], "reasoning": "Hm.\n\nSo."}
    assert Dialogue(row("1", "2", "3"), ends).extras() == {**joined, "raw": [2], "logprobs": [2]}
    assert first["citations"] == [1], "what was kept stays what it was"
    failed = Reply("failed", "", extras={"raw": {"error": "x"}})
    assert Dialogue(row("1", "2", "3"), ends).extras(failed) == {**joined, "raw": {"error": "x"}}
    assert Dialogue(prompt(), [ended(1, 1, "a")]).extras() is None


def test_ends_are_numbered_on() -> None:
    """A run that ends gets the next number, whatever was recorded before, and keeps its request."""
    dialogue = Dialogue(prompt(), [ended(1, 1, asking(ToolCall("a", "f", "{}"), CALL), history=(MESSAGE,))])
    exchange = dialogue.next()
    assert exchange is not None
    outputs = (ToolOutput("a", "1"), ToolOutput("call_1", "2"))
    said = ({"role": "tool", "content": "1"},)
    reply = Reply("completed", "3", Usage(1, 1, 2), history=said)
    end = dialogue.add(with_outputs(exchange, dialogue.ends[0], outputs), reply, 2, None, "r2")
    assert (end.number, end.turn, end.attempt, end.asked, end.run_id) == (2, 1, 2, "1\n2", "r2")
    assert end.history == (MESSAGE, *said)
    assert dialogue.last is end
    assert [usage.total_tokens for usage in dialogue.usages()] == [15, 2]


def test_characters_to_read() -> None:
    """The characters of all earlier requests and answers, and of the message."""
    dialogue = Dialogue(row("one", "two"), [ended(1, 1, "12345")])
    exchange = dialogue.next()
    assert exchange is not None
    assert dialogue.chars(exchange) == len("question 1") + 5 + len("two")


def test_characters_beside_the_turns() -> None:
    """Examples and the row's own instructions are read in every run, and count in the first reservation too."""
    example = ({"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"})
    single = prompt()
    own = replace(single, own=RowSettings(instructions="Be short"), first=replace(single.first, examples=example))
    exchange = Dialogue(own).next()
    assert exchange is not None
    assert own.chars == Dialogue(own).chars(exchange) == len(single.first.text) + 8 + 5
