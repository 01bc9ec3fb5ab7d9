"""Answers that do not have the requested form, and answers that are empty."""

from __future__ import annotations

import pytest

from batchrun.engine import DialogueSettings
from batchrun.journal import Journal
from batchrun.records import (
    EMPTY_ANSWER,
    Completed,
    Failed,
)
from tests.support.row_bench import (
    ONE,
    TOKENS,
    TWO,
    RowBench,
    Toolbox,
    asks,
    each_way_to_call,
    row,
    says,
    says_nothing,
    with_tools,
)
from tests.support.scripted_service import Move

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


# -- form ---------------------------------------------------------------------------------------------------------


def upper(answer: str) -> str | None:
    return None if answer.isupper() else "not in capitals"


SHAPED = DialogueSettings(recorded=True, check=upper, max_corrections=1)


async def test_an_answer_is_corrected(bench: RowBench) -> None:
    """On the same thread, in another run; both are billed."""
    run = await bench.run({0: [says("no"), says("YES")]}, ONE, settings=SHAPED)
    assert run.service.asked[1].exchange.thread_id == "thread_0_1"
    outcome = bench.outcome()
    assert (outcome.response, outcome.usage.total_tokens, outcome.attempts) == ("YES", 2 * TOKENS, 2)


async def test_a_hopeless_answer(bench: RowBench) -> None:
    """The row fails with what is wrong, and keeps its last answer; all of them are in the journal."""
    await bench.run({0: [says("no"), says("never")]}, ONE, settings=SHAPED)
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, outcome.response, outcome.attempts) == ("schema_mismatch", "never", 2)
    assert outcome.error == "the answer does not have the requested form: not in capitals"
    assert outcome.usage.total_tokens == 2 * TOKENS


async def test_a_hopeless_answer_is_requested_again(bench: RowBench) -> None:
    """A retry asks the question, not the correction, in a run and on a thread of its own."""
    await bench.run({0: [says("no"), says("never")]}, ONE, settings=SHAPED)
    second = await bench.run({0: [says("YES")]}, ONE, settings=SHAPED, retry_failed=True)
    assert second.texts == [("0", "q")]
    (asked,) = second.service.of("answer")
    assert (asked.attempt.key, asked.exchange.thread_id) == ("b-0-3", None)
    outcome = bench.outcome()
    assert (outcome.response, outcome.usage.total_tokens, outcome.attempts) == ("YES", TOKENS, 3)
    assert bench.spent() == 3 * TOKENS / 100


async def test_hopeless_in_another_process(bench: RowBench) -> None:
    """Killed after the last wrong answer, the row fails without another attempt, and a retry still asks again."""
    await bench.run({0: [says("no"), says("never")]}, ONE, settings=SHAPED)
    with Journal(bench.path) as journal:
        journal._db.write("DELETE FROM outcomes")
        journal._db.write("UPDATE attempts SET fault_type = NULL, fault = NULL, run_ended = 0")
    second = await bench.run(prompts=ONE, settings=SHAPED)
    assert second.service.asked == []
    assert bench.outcome().attempts == 2
    third = await bench.run({0: [says("YES")]}, ONE, settings=SHAPED, retry_failed=True)
    assert third.texts == [("0", "q")]
    assert [each.method for each in third.service.asked] == ["answer"]


# -- empty answers ------------------------------------------------------------------------------------------------


ONE_QUESTION = ("one {{ q }}",)


async def test_an_empty_answer_is_asked_for_again(bench: RowBench) -> None:
    """Once, as another run under another key; what the empty one took is billed to the row."""
    run = await bench.run({0: [says_nothing(), says("A")]}, [row(ONE_QUESTION)], settings=DialogueSettings())
    assert run.texts == [("0", "one 0"), ("0", "one 0")]
    assert [each.attempt.key for each in run.service.of("answer")] == ["b-0-1", "b-0-2"]
    outcome = bench.outcome()
    assert isinstance(outcome, Completed)
    assert (outcome.status, outcome.response, outcome.reason) == ("completed", "A", None)
    assert (outcome.usage.total_tokens, outcome.attempts) == (2 * TOKENS, 2)
    assert bench.spent() == pytest.approx(2 * TOKENS / 100)
    assert bench.tries("fault_type", "run_ended") == [(EMPTY_ANSWER, 1), (None, 0)]


async def test_an_answer_that_is_empty_twice(bench: RowBench) -> None:
    """Ends its row as incomplete, and a later run of the batch takes it as it is."""
    run = await bench.run({0: [says_nothing(), says_nothing(" ")]}, [row(ONE_QUESTION)], settings=DialogueSettings())
    outcome = bench.outcome()
    assert isinstance(outcome, Completed)
    assert (outcome.status, outcome.reason, outcome.response) == ("incomplete", EMPTY_ANSWER, " ")
    assert outcome.usage.total_tokens == 2 * TOKENS
    assert run.engine.statistics().incomplete == 1
    again = await bench.run({}, [row(ONE_QUESTION)], retry_failed=True)
    assert again.texts == []


async def test_an_empty_turn_ends_its_row(bench: RowBench) -> None:
    """It is asked twice; later turns, which would build on nothing, are not asked, also by the next run."""
    turns = [*TWO, "three {{ responses[1] }}"]
    run = await bench.run({0: [says("A"), says_nothing(), says_nothing()]}, [row(turns)])
    assert [text for _, text in run.texts] == ["one 0", "two A", "two A"]
    outcome = bench.outcome()
    assert isinstance(outcome, Completed)
    assert (outcome.status, outcome.reason, outcome.usage.total_tokens) == ("incomplete", EMPTY_ANSWER, 3 * TOKENS)
    assert (await bench.run({}, [row(turns)])).texts == []


async def test_each_turn_is_asked_again_once(bench: RowBench) -> None:
    """An empty first turn takes the second nothing away."""
    run = await bench.run({0: [says_nothing(), says("A"), says_nothing(), says("B")]})
    assert [text for _, text in run.texts] == ["one 0", "one 0", "two A", "two A"]
    assert (bench.outcome().status, bench.outcome().usage.total_tokens) == ("completed", 4 * TOKENS)


async def test_killed_between_two_empty_answers(bench: RowBench) -> None:
    """The next run knows that the row was asked again already."""
    await bench.run({0: [says_nothing(), Move(end=None, ids=None)]}, [row(ONE_QUESTION)], killed_after_s=1.5)
    run = await bench.run({0: [says_nothing()]}, [row(ONE_QUESTION)])
    assert len(run.texts) == 1
    assert (bench.outcome().status, bench.outcome().attempts) == ("incomplete", 3)


async def test_an_empty_answer_is_not_corrected(bench: RowBench) -> None:
    """Where answers are to have a form, nothing is said about the form of nothing."""
    settings = DialogueSettings(recorded=True, check=lambda text: None if text == "A" else "not A", max_corrections=2)
    run = await bench.run({0: [says_nothing(), says_nothing()]}, [row(ONE_QUESTION)], settings=settings)
    assert [text for _, text in run.texts] == ["one 0", "one 0"]
    assert bench.outcome().status == "incomplete"


@each_way_to_call
async def test_an_empty_answer_behind_functions(bench: RowBench, waiting: bool) -> None:
    """It is incomplete as well, and no other run is made, which would call the functions once more."""
    toolbox = Toolbox()
    await bench.run({0: [asks(waiting=waiting), says_nothing()]}, [row(ONE_QUESTION)], settings=with_tools(toolbox))
    assert len(toolbox.called) == 1
    outcome = bench.outcome()
    assert isinstance(outcome, Completed)
    assert (outcome.status, outcome.reason) == ("incomplete", EMPTY_ANSWER)
