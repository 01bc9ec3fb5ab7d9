"""Rows with several turns: what is sent, kept and charged, whatever happens on the way."""

from __future__ import annotations

from typing import Any

import pytest

from batchrun.errors import (
    BatchRefused,
    OutputError,
    PermanentFault,
    RateLimited,
    RunLost,
)
from batchrun.journal import Journal
from batchrun.records import Completed, Failed, Prompt, Reply
from batchrun.token_usage import Usage
from tests.support.row_bench import (
    NEVER,
    TOKENS,
    TWO,
    RowBench,
    faults,
    row,
    says,
)
from tests.support.scripted_service import Move, answered

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


# -- turns --------------------------------------------------------------------------------------------------------


async def test_turns_one_after_the_other(bench: RowBench) -> None:
    """Each turn is a run of its own under a key of its own; the outcome is the last answer, with all that it took."""
    run = await bench.run({0: [says("A"), says("B")]})
    assert run.texts == [("0", "one 0"), ("0", "two A")]
    first, second = run.service.of("answer")
    assert (first.attempt.key, second.attempt.key) == ("b-0-1", "b-0-2")
    assert (second.exchange.thread_id, second.exchange.previous_id) == ("thread_0_1", "run_0_1")
    outcome = bench.outcome()
    assert isinstance(outcome, Completed)
    assert (outcome.response, outcome.attempts, outcome.run_id) == ("B", 2, "run_0_2")
    assert outcome.usage.total_tokens == 2 * TOKENS
    assert outcome.cost_usd == pytest.approx(2 * TOKENS / 100)
    assert outcome.duration_s == pytest.approx(2.0, abs=0.01)
    assert bench.answers(row()) == {1: "A", 2: "B"}
    assert bench.tries("number", "turn", "run_id") == [(1, 1, "run_0_1"), (2, 2, "run_0_2")]


async def test_rows_are_not_held_up_by_others(bench: RowBench) -> None:
    """The turns of one row follow one another; rows go side by side."""
    run = await bench.run(prompts=[row(number=number) for number in range(4)])
    assert run.service.most_in_flight == 4
    assert sorted(each[0] for each in run.texts[:4]) == sorted(each[0] for each in run.texts[4:]) == list("0123")


@pytest.mark.parametrize("killed_after_s", [0.5, 1.5, 2.5])
async def test_killed_in_any_turn(bench: RowBench, killed_after_s: float) -> None:
    """The next run follows the run that was in flight by its id, and creates only the later ones."""
    turns = [*TWO, "three {{ responses[1] }}"]
    killed_in = int(killed_after_s) + 1
    first = await bench.run(
        {0: [*(says(text) for text in "ABC"[: killed_in - 1]), NEVER]}, [row(turns)], killed_after_s=killed_after_s
    )
    assert len(first.texts) == killed_in
    second = await bench.run({0: [says(text) for text in "ABC"[killed_in - 1 :]]}, [row(turns)])
    assert [each.attempt.run_id for each in second.service.of("follow")] == [f"run_0_{killed_in}"]
    assert len(second.texts) == 3 - killed_in
    assert bench.answers(row(turns)) == {1: "A", 2: "B", 3: "C"}
    outcome = bench.outcome()
    assert (outcome.usage.total_tokens, outcome.attempts) == (3 * TOKENS, 4)


async def test_killed_before_a_turn_named_its_run(bench: RowBench) -> None:
    """The request of the second turn is repeated under its own key; the first turn is not asked again."""
    await bench.run({0: [says("A"), Move(end=None, ids=None)]}, killed_after_s=1.5)
    second = await bench.run({0: [says("B")]})
    assert second.texts == [("0", "two A")]
    assert [each.attempt.key for each in second.service.of("answer")] == ["b-0-2"]
    assert second.engine.statistics().created_again == 1


async def test_killed_between_two_turns(bench: RowBench) -> None:
    """An answer is on disk as soon as it is known: killed right after it, the batch continues with the next turn."""
    await bench.run({0: [says("A"), NEVER]}, killed_after_s=1.5)
    with Journal(bench.path) as journal:
        journal._db.write("DELETE FROM attempts WHERE number = 2")
    second = await bench.run({0: [says("B")]})
    assert second.texts == [("0", "two A")]
    assert [each.attempt.key for each in second.service.of("answer")] == ["b-0-2"]
    assert bench.outcome().usage.total_tokens == 2 * TOKENS


async def test_killed_behind_the_last_answer(bench: RowBench) -> None:
    """Every run is recorded, and only the outcome is missing: nothing is sent, and no attempt is added."""
    await bench.run({0: [says("A"), says("B")]})
    with Journal(bench.path) as journal:
        journal._db.write("DELETE FROM outcomes")
    second = await bench.run()
    assert second.service.asked == []
    outcome = bench.outcome()
    assert (outcome.response, outcome.attempts, outcome.run_id) == ("B", 2, "run_0_2")
    assert outcome.usage.total_tokens == 2 * TOKENS


async def test_interrupted_between_turns(bench: RowBench) -> None:
    """A stop without grace leaves the row where it is; the same command continues there."""
    first = await bench.run({0: [says("A"), NEVER]}, stop_after_s=1.5)
    assert first.engine.stop is not None
    assert not bench.ended()
    second = await bench.run({0: [says("B")]})
    assert [each.method for each in second.service.asked] == ["follow"]
    assert bench.outcome().response == "B"


@pytest.mark.parametrize("fault", [faults(), faults(RateLimited, retry_after_s=3.0)], ids=["503", "429"])
async def test_faults_that_pass_in_a_later_turn(bench: RowBench, fault: Move) -> None:
    """The turn is tried again under its key; the turns before it are not."""
    run = await bench.run({0: [says("A"), fault, says("B")]})
    assert run.texts == [("0", "one 0"), ("0", "two A"), ("0", "two A")]
    assert [each.attempt.key for each in run.service.of("answer")] == ["b-0-1", "b-0-2", "b-0-2"]
    outcome = bench.outcome()
    assert (outcome.response, outcome.attempts) == ("B", 3)


async def test_a_run_that_is_lost_in_a_later_turn(bench: RowBench) -> None:
    """It is created again on the existing thread, after the existing answers."""
    await bench.run({0: [says("A"), NEVER]}, killed_after_s=1.5)
    second = await bench.run({0: [faults(RunLost, run_ended=True), says("B")]})
    assert second.texts == [("0", "two A")]
    (again,) = second.service.of("answer")
    assert (again.exchange.thread_id, again.attempt.key) == ("thread_0_1", "b-0-3")
    assert bench.outcome().usage.total_tokens == 2 * TOKENS


def gone(name: str = "thread_0_1", status_code: int = 404, **fields: Any) -> Move:
    fault = PermanentFault(
        f"Nothing found with id '{name}'.", **{"error_type": "x", "status_code": status_code, **fields}
    )
    return Move(fault, ids=None)


@pytest.mark.parametrize(
    "lost", [gone(), gone("run_0_1", 400, error_type="previous_response_not_found")], ids=["thread", "chain"]
)
async def test_a_thread_that_is_lost(bench: RowBench, lost: Move) -> None:
    """If the thread is deleted, or is at another service, the row starts again at its first turn; all usage counts."""
    await bench.run({0: [says("A"), faults(), faults(), faults()]})
    second = await bench.run({0: [lost, says("A2"), says("B2")]}, retry_failed=True)
    assert second.texts == [("0", "two A"), ("0", "one 0"), ("0", "two A2")]
    assert [each.exchange.thread_id for each in second.service.of("answer")] == ["thread_0_1", None, "thread_0_2"]
    assert len({each.attempt.key for each in second.service.of("answer")}) == 3
    assert second.engine.statistics().created_again == 1, "the first turn: that nothing came of the second was seen"
    outcome = bench.outcome()
    assert (outcome.response, outcome.usage.total_tokens) == ("B2", 3 * TOKENS)
    assert bench.answers(row()) == {1: "A2", 2: "B2"}
    assert bench.spent() == 3 * TOKENS / 100


async def test_a_thread_that_is_lost_again_and_again(bench: RowBench) -> None:
    """Once is enough: a service that keeps no threads costs no more than one more beginning."""
    run = await bench.run({0: [says("A"), gone(), says("A2"), gone("thread_0_3")]})
    assert len(run.texts) == 4
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, outcome.usage.total_tokens) == ("x", 2 * TOKENS)


@pytest.mark.parametrize(
    ("prompt", "moves"),
    [
        (row(), [says("A"), gone("file_9")]),
        (row(), [says("A"), gone(status_code=400)]),
        (row(), [gone()]),
        (row(thread_id="thread_0_1"), [says("A"), gone()]),
    ],
    ids=["something else", "another fault", "in the first turn", "the user's thread"],
)
async def test_other_errors_are_not_a_lost_thread(bench: RowBench, prompt: Prompt, moves: list[Move]) -> None:
    """The row fails with what the service says, and nothing is asked again."""
    run = await bench.run({0: moves}, [prompt])
    assert len(run.texts) == len(moves)
    assert isinstance(bench.outcome(), Failed)


async def test_a_later_run_that_failed_is_billed_too(bench: RowBench) -> None:
    """A run that failed and took tokens, and the one in its place, both count."""
    fault = faults(run_ended=True, usage=Usage(1, 1, 2))
    await bench.run({0: [says("A"), fault, says("B")]})
    assert bench.outcome().usage.total_tokens == 2 * TOKENS + 2


@pytest.mark.parametrize("status", ["failed", "expired", "cancelled"])
async def test_a_later_run_that_ends_badly(bench: RowBench, status: Any) -> None:
    """The row ends as its run did, at a turn that is named; the answers before it, and their cost, are kept."""
    reply = Reply(status, "half", Usage(1, 1, 2), "m", "content_filter", "no")
    await bench.run({0: [says("A"), Move(reply)]})
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.status, outcome.error_type, outcome.error) == (status, "content_filter", "turn 2: no")
    assert (outcome.response, outcome.usage.total_tokens, outcome.run_id) == ("half", TOKENS + 2, "run_0_2")
    assert bench.answers(row()) == {1: "A"}


async def test_a_later_turn_that_is_given_up(bench: RowBench) -> None:
    """Its last fault is the row's; the answer before it is not thrown away."""
    await bench.run({0: [says("A"), faults(), faults(), faults()]})
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.error, outcome.response, outcome.attempts) == ("turn 2: not now", "A", 4)
    assert (outcome.thread_id, outcome.run_id, outcome.model) == ("thread_0_1", "run_0_1", "m")
    assert (outcome.usage.total_tokens, outcome.cost_usd) == (TOKENS, TOKENS / 100)


async def test_time_runs_out_in_a_later_turn(bench: RowBench) -> None:
    """The time of a row is that of all its turns; the run in flight is stopped."""
    run = await bench.run({0: [says("A", after_s=6.0), NEVER]}, timeout_s=10.0)
    (cancelled,) = run.service.of("cancel")
    assert cancelled.attempt.run_id == "run_0_2"
    assert cancelled.at_s == pytest.approx(10.0, abs=0.01)
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, outcome.response) == ("row_timeout", "A")
    assert outcome.error.startswith("turn 2: not finished within 10 s")


async def test_a_later_turn_that_cannot_be_rendered(bench: RowBench) -> None:
    """The error has the number of the turn, and no attempt is counted."""
    turns = ("one", "two {{ 1 // (responses[0] | int) }}")
    await bench.run({0: [says("0")]}, [row(turns)])
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, outcome.attempts, outcome.response) == ("template_error", 1, "0")
    assert outcome.error.startswith("turn 2: the template fails on this row")


async def test_killed_before_a_turn_that_cannot_be_rendered(bench: RowBench) -> None:
    """It is the same if another process finds it: one attempt was made, and one is counted."""
    turns = ("one", "two {{ 1 // (responses[0] | int) }}")
    await bench.run({0: [says("0")]}, [row(turns)])
    with Journal(bench.path) as journal:
        journal._db.write("DELETE FROM outcomes")
    second = await bench.run(prompts=[row(turns)])
    assert second.service.asked == []
    assert bench.outcome().attempts == 1


async def test_a_refusal_in_a_later_turn_stops_the_batch(bench: RowBench) -> None:
    """The row is left where it is, to continue after its first answer."""
    refusal = faults(BatchRefused, error_type="insufficient_quota", status_code=429)
    first = await bench.run({0: [says("A"), refusal]})
    assert first.engine.stop is not None
    assert not bench.ended()
    second = await bench.run({0: [says("B")]})
    assert second.texts == [("0", "two A")]
    assert bench.outcome().usage.total_tokens == 2 * TOKENS


async def test_a_journal_that_can_be_written_no_more(bench: RowBench) -> None:
    """The batch ends with the journal's error, and the next run continues after the recorded runs."""
    await bench.run({0: [says("A"), NEVER]}, killed_after_s=1.5)
    with Journal(bench.path) as journal:
        journal._db.write(
            "CREATE TRIGGER full BEFORE INSERT ON exchanges BEGIN SELECT raise(ABORT, 'disk is full'); END"
        )
    with pytest.raises(OutputError, match="the disk is full"):
        await bench.run({0: [says("B")]})
    with Journal(bench.path) as journal:
        journal._db.write("DROP TRIGGER full")
    third = await bench.run({0: [says("B")]})
    assert [each.method for each in third.service.asked] == ["follow"]
    assert bench.answers(row()) == {1: "A", 2: "B"}


# -- asked again --------------------------------------------------------------------------------------------------


async def test_a_retry_begins_where_the_row_failed(bench: RowBench) -> None:
    """`--retry-failed` makes another run of the turn that failed; what went before is neither asked nor billed again."""
    await bench.run({0: [says("A"), Move(Reply("failed", "", Usage(1, 1, 2), "m", "invalid_prompt", "no"))]})
    assert bench.spent() == (TOKENS + 2) / 100
    second = await bench.run({0: [says("B")]}, retry_failed=True)
    assert second.texts == [("0", "two A")]
    assert [each.attempt.key for each in second.service.of("answer")] == ["b-0-3"]
    outcome = bench.outcome()
    assert (outcome.response, outcome.usage.total_tokens, outcome.attempts) == ("B", 2 * TOKENS, 3)
    assert bench.spent() == (2 * TOKENS + 2) / 100


async def test_without_a_retry_failed_rows_stay(bench: RowBench) -> None:
    """A row that failed in a later turn is left alone."""
    await bench.run({0: [says("A"), faults(PermanentFault, error_type="invalid_prompt")]})
    assert (await bench.run()).service.asked == []


async def test_a_lost_request_is_repeated_by_the_retry(bench: RowBench) -> None:
    """Given up without a word from the service, a turn is asked for under the key that it had: it may have been done."""
    await bench.run({0: [says("A"), faults(), faults(), faults()]})
    second = await bench.run({0: [says("B")]}, retry_failed=True)
    assert [each.attempt.key for each in second.service.of("answer")] == ["b-0-2"]
    assert bench.answers(row()) == {1: "A", 2: "B"}


async def test_a_retry_of_what_cannot_be_rendered_costs_nothing(bench: RowBench) -> None:
    """The answers stay what they are, and so does the error: nobody is asked."""
    turns = ("one", "two {{ 1 // (responses[0] | int) }}")
    await bench.run({0: [says("0")]}, [row(turns)])
    second = await bench.run(prompts=[row(turns)], retry_failed=True)
    assert second.service.asked == []
    assert isinstance(bench.outcome(), Failed)
    assert bench.answers(row(turns)) == {1: "0"}
    assert bench.spent() == TOKENS / 100


async def test_a_killed_retry_resumes(bench: RowBench) -> None:
    """The run that the retry made is followed; the answers before it are still known and still not billed twice."""
    await bench.run({0: [says("A"), faults(PermanentFault, error_type="invalid_prompt")]})
    await bench.run({0: [NEVER]}, retry_failed=True, killed_after_s=0.5)
    third = await bench.run({0: [says("B")]})
    assert [each.method for each in third.service.asked] == ["follow"]
    assert bench.outcome().usage.total_tokens == 2 * TOKENS
    assert bench.spent() == 2 * TOKENS / 100


async def test_retries_after_retries(bench: RowBench) -> None:
    """However often a later turn fails, the first is asked once and billed once."""
    failure = Reply("failed", "", Usage(1, 1, 2), "m", "invalid_prompt", "no")
    first = await bench.run({0: [says("A"), Move(failure)]})
    for _ in range(3):
        await bench.run({0: [Move(failure)]}, retry_failed=True)
    last = await bench.run({0: [says("B")]}, retry_failed=True)
    assert [len(run.texts) for run in (first, last)] == [2, 1]
    assert bench.spent() == (2 * TOKENS + 4 * 2) / 100


async def test_an_edited_row_is_asked_from_the_beginning(bench: RowBench) -> None:
    """Another prompt uses none of the earlier answers; these are kept."""
    await bench.run({0: [says("A"), says("B")]})
    other = row(("uno", "due {{ responses[0] }}"))
    second = await bench.run({0: [says("C"), says("D")]}, [other])
    assert second.texts == [("0", "uno"), ("0", "due C")]
    assert bench.answers(other) == {1: "C", 2: "D"}
    assert bench.answers(row()) == {1: "A", 2: "B"}
    assert bench.spent() == 4 * TOKENS / 100


# -- threads ------------------------------------------------------------------------------------------------------


async def test_rows_of_one_thread_go_in_turn(bench: RowBench) -> None:
    """Rows that continue the same thread run one after the other, in input order; other rows do not wait for them."""
    rows = [row(number=number, thread_id=thread) for number, thread in enumerate(["t", "t", "u", "t"])]
    run = await bench.run(prompts=rows)
    assert [each[0] for each in run.texts if each[0] != "2"] == ["0", "0", "1", "1", "3", "3"]
    assert max(each.at_s for each in run.service.asked if each.row_key == "2") < 2.0
    assert {each.exchange.thread_id for each in run.service.of("answer")} == {"t", "u"}


async def test_a_row_that_fails_lets_the_thread_go(bench: RowBench) -> None:
    """The next row of the thread is asked all the same."""
    rows = [row(("q",), number=number, thread_id="t") for number in range(2)]
    await bench.run({0: [faults(PermanentFault)]}, rows)
    assert isinstance(bench.outcome("0"), Failed)
    assert isinstance(bench.outcome("1"), Completed)


async def test_a_stop_reaches_those_who_wait_for_a_thread(bench: RowBench) -> None:
    """After a stop the row that has the thread may finish; the rows after it are not begun."""
    rows = [row(("q",), number=number, thread_id="t") for number in range(3)]
    refused = faults(BatchRefused, error_type="insufficient_quota")
    run = await bench.run({0: [refused]}, rows)
    assert [each[0] for each in run.texts] == ["0"]
    assert not bench.ended("1")


# -- limits and money ---------------------------------------------------------------------------------------------


async def test_every_run_passes_the_token_limit(bench: RowBench) -> None:
    """Tokens are set aside for each run of a row, and what a run really took is settled once."""
    turns = ("x" * 40, "y" * 40, "z" * 40)
    usage = Usage(500, 500, 1_000)
    run = await bench.run({0: [Move(answered("a", usage=usage)) for _ in turns]}, [row(turns)], tpm=1_000)
    at_s = [each.at_s for each in run.service.of("answer")]
    assert at_s[1] > 30.0
    assert at_s[2] > at_s[1] + 30.0


async def test_the_budget_counts_all_turns(bench: RowBench) -> None:
    """What rows of several turns take is learned as a whole: the batch stops before it would cost more."""
    rows = [row(number=number) for number in range(100)]
    run = await bench.run(prompts=rows, budget=20.0, concurrency=1)
    assert run.engine.stop is not None
    assert run.engine.stop.exit_code == 4
    assert 19.0 < bench.spent() <= 20.0


async def test_the_budget_counts_what_a_retry_takes_over_once(bench: RowBench) -> None:
    """A first turn that the failed row has paid for is not spent again."""
    await bench.run({0: [says("A"), faults(PermanentFault, error_type="invalid_prompt")]})
    run = await bench.run({0: [says("B")]}, retry_failed=True, budget=100.0)
    assert run.budget is not None
    assert run.budget.spent_usd == pytest.approx(2 * TOKENS / 100)
    assert bench.spent() == 2 * TOKENS / 100
