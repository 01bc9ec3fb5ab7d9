"""What a row says next, from what it has said: pure, so that every course of a dialogue is a list of ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from batchrun.engine.dialogue import CORRECTION, Dialogue, Misshapen, with_outputs
from batchrun.prompts.templates import PromptError
from batchrun.records import Exchange, Prompt, Reply, Row, RunEnd, ToolCall, ToolOutput, Turn, Usage
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
    """A row that has said nothing begins a thread with its question."""
    assert Dialogue(prompt(3, "why?")).next() == Exchange("3", Turn("why?"))


def test_one_answer_is_all() -> None:
    """A row of one question is done when it is answered, whole or cut short."""
    for reply in (Reply("completed", "a"), Reply("incomplete", "a", reason="max_completion_tokens")):
        dialogue = Dialogue(prompt(), [ended(1, 1, reply)])
        assert dialogue.next() is None
        assert dialogue.answer() == reply


def test_turns_go_on_with_the_thread() -> None:
    """The next turn sees the answers before it, and goes on where the last run ended."""
    ends = [ended(1, 1, "A1", thread_id="t", run_id="r", history=(MESSAGE,))]
    exchange = Dialogue(row("{{ q }}", "{{ q }}: {{ responses[0] }}"), ends).next()
    assert exchange is not None
    assert exchange == Exchange("0", Turn("Q: A1", 2), thread_id="t", previous_id="r", history=(MESSAGE,))


def test_turns_that_are_left_out() -> None:
    """A turn whose condition does not hold is skipped; later turns see "" for it, and count it."""
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
    """Whether it fails by its text or by its condition, the error says which turn it is."""
    with pytest.raises(PromptError, match=r"^turn 2: ") as caught:
        Dialogue(row("one", turn), [ended(1, 1, "0")]).next()
    assert caught.value.error_type == error_type


def test_a_thread_that_is_continued() -> None:
    """The first turn goes on with the thread that the table names, the next where that run ended."""
    given = replace(prompt(), thread_id="conv_9")
    assert Dialogue(given).next() == Exchange("0", given.first, thread_id="conv_9", previous_id="conv_9")
    two = replace(row("one", "two"), thread_id="conv_9")
    exchange = Dialogue(two, [ended(1, 1, "a", thread_id="conv_9", run_id="resp_1")]).next()
    assert exchange is not None
    assert (exchange.thread_id, exchange.previous_id) == ("conv_9", "resp_1")


def test_the_variant_goes_along() -> None:
    """Every exchange of a row is asked with the row's own combination of settings."""
    two = replace(row("one", "two"), variant=3)
    for ends in ([], [ended(1, 1, "a")], [ended(1, 1, asking())]):
        exchange = Dialogue(two, ends).next()
        assert exchange is not None
        assert exchange.variant == 3


# -- functions ----------------------------------------------------------------------------------------------------


def test_calls_that_were_not_answered() -> None:
    """A run that asked for functions, in a batch that goes on: its turn again, from that run on."""
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
    """The exchange behind a call has the outputs, the run that they are for, and what was said."""
    end = ended(1, 1, asking(text="let me see"), thread_id="t", run_id="r", history=(MESSAGE,))
    output = (ToolOutput("call_1", "2"),)
    exchange = with_outputs(Exchange("0", Turn("q"), round=1), end, output)
    assert exchange == Exchange(
        "0", Turn("q"), thread_id="t", previous_id="r", history=(MESSAGE,), outputs=output, round=1
    )


def test_a_run_that_waits_is_heard() -> None:
    """What it said so far goes along, for the answer is all that it says."""
    waiting = ended(1, 1, asking(waiting=True, text="one\n\ntwo"))
    assert with_outputs(Exchange("0", Turn("q"), partial_text="one"), waiting, ()).partial_text == "one\n\ntwo"


def test_an_answer_behind_calls() -> None:
    """The answer is the one that asks for nothing; runs with calls have no part in it."""
    ends = [ended(1, 1, asking(text="let me see")), ended(2, 1, "four")]
    dialogue = Dialogue(prompt(), ends)
    assert dialogue.next() is None
    assert dialogue.answer().response == "four"
    assert dialogue.responses(1) == ["four"]


# -- form ---------------------------------------------------------------------------------------------------------


def test_a_good_answer_is_not_corrected() -> None:
    """Form holds: done."""
    assert Dialogue(prompt(), [ended(1, 1, "YES")], check=upper).next() is None


def test_corrections() -> None:
    """The model is told what is wrong, on the same thread and in the same turn, as often as is allowed."""
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
    """With none allowed the first wrong answer is the end."""
    with pytest.raises(Misshapen):
        Dialogue(prompt(), [ended(1, 1, "a")], check=upper).next()


def test_calls_are_no_corrections() -> None:
    """Rounds of functions do not count against the corrections."""
    ends = [ended(1, 1, asking()), ended(2, 1, "a"), ended(3, 1, asking()), ended(4, 1, "b")]
    exchange = Dialogue(prompt(), ends, check=upper, max_corrections=2).next()
    assert exchange is not None
    assert "'b' is not in capitals" in exchange.turn.text


def test_only_the_last_turn_has_a_form() -> None:
    """Earlier turns may be answered in any way, and are asked for no form."""
    dialogue = Dialogue(row("one", "two"), check=upper, max_corrections=1)
    first = dialogue.next()
    assert first is not None
    assert not first.structured
    dialogue.add(first, Reply("completed", "small"), 1, "t", "r1")
    second = dialogue.next()
    assert second is not None
    assert (second.turn.number, second.structured) == (2, True)


def test_an_answer_that_was_cut_short_is_not_corrected() -> None:
    """It cannot have the form, and would be cut short again."""
    cut = Reply("incomplete", '{"a": ', reason="max_completion_tokens")
    assert Dialogue(prompt(), [ended(1, 1, cut)], check=upper, max_corrections=2).next() is None


def test_corrections_behind_a_resume() -> None:
    """What was corrected before a kill counts."""
    ends = [ended(1, 1, "a"), ended(2, 1, "b")]
    assert asked(Dialogue(prompt(), ends, check=upper, max_corrections=2).next()) == (
        1,
        CORRECTION.format(problem="'b' is not in capitals"),
    )
    with pytest.raises(Misshapen):
        Dialogue(prompt(), ends, check=upper, max_corrections=1).next()


# -- the whole ----------------------------------------------------------------------------------------------------


def test_cut_short_in_any_turn() -> None:
    """An answer to one of the turns was cut short: the row is incomplete, for that reason."""
    cut = Reply("incomplete", "half", reason="max_completion_tokens")
    dialogue = Dialogue(row("one", "two"), [ended(1, 1, cut), ended(2, 2, "whole")])
    assert dialogue.next() is None
    whole = dialogue.answer()
    assert (whole.response, whole.status, whole.reason) == ("whole", "incomplete", "max_completion_tokens")


def test_extras_of_all_runs() -> None:
    """Citations and files of all runs stand one after the other; counts are added."""
    replies = [
        Reply("completed", "a", extras={"citations": [1], "n": 1}),
        Reply("completed", "b"),
        Reply("completed", "c", extras={"citations": [2, 3], "files": ["f"], "n": 2}),
    ]
    ends = [ended(number, number, reply) for number, reply in enumerate(replies, start=1)]
    assert Dialogue(row("1", "2", "3"), ends).extras() == {"citations": [1, 2, 3], "files": ["f"], "n": 3}
    assert ends[0].reply.extras == {"citations": [1], "n": 1}, "what was kept stays what it was"
    assert Dialogue(prompt(), [ended(1, 1, "a")]).extras() is None


def test_ends_are_numbered_on() -> None:
    """A run that ends is the next one, whatever was kept before; it remembers what it was asked."""
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
    """All that was asked and answered before, and the message."""
    dialogue = Dialogue(row("one", "two"), [ended(1, 1, "12345")])
    exchange = dialogue.next()
    assert exchange is not None
    assert dialogue.chars(exchange) == len("question 1") + 5 + len("two")
