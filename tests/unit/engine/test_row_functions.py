"""Rows whose model calls the user's functions: each call is made once, whatever happens on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batchrun.engine import DialogueSettings
from batchrun.records import Completed, Failed, ToolCall, ToolOutput
from batchrun.token_usage import Usage
from tests.support.ends import CALL
from tests.support.row_bench import (
    NEVER,
    ONE,
    TOKENS,
    RowBench,
    Toolbox,
    asks,
    each_way_to_call,
    faults,
    row,
    says,
    with_tools,
)
from tests.support.scripted_service import Move

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


# -- functions ----------------------------------------------------------------------------------------------------


OTHER = ToolCall("call_2", "double", '{"x": 2}')


@each_way_to_call
async def test_functions(bench: RowBench, waiting: bool) -> None:
    """Outputs go back in the order of the calls, round after round; each function is called once a call."""
    toolbox = Toolbox()
    moves = [asks(CALL, OTHER, waiting=waiting), asks(ToolCall("c", "f", "{}"), waiting=waiting), says("done")]
    run = await bench.run({0: moves}, ONE, settings=with_tools(toolbox))
    assert run.texts == [("0", "q"), ("0", "output 1", "output 2"), ("0", "output 3")]
    assert [each.exchange.round for each in run.service.of("answer")] == [0, 1, 2]
    assert len({each.attempt.key for each in run.service.of("answer")}) == 1
    outcome = bench.outcome()
    assert isinstance(outcome, Completed)
    assert (outcome.response, outcome.attempts) == ("done", 1)
    assert outcome.extras == {"tool_calls": 3, "tool_errors": 0}
    assert outcome.usage.total_tokens == (TOKENS if waiting else 3 * TOKENS), (
        "a run that waits tells its usage at its end"
    )


@each_way_to_call
async def test_calls_that_are_all_named_alike(bench: RowBench, waiting: bool) -> None:
    """Where a server gives every call the same id, each still gets its own output."""
    toolbox = Toolbox()
    calls = [ToolCall("", "f", '{"x": 1}'), ToolCall("", "f", '{"x": 2}')]
    await bench.run({0: [asks(*calls, waiting=waiting), says("done")]}, ONE, settings=with_tools(toolbox))
    assert toolbox.called == calls


async def test_the_same_name_in_the_next_round(bench: RowBench) -> None:
    """A call of the next run is another one, though it be named and mean the same."""
    toolbox = Toolbox()
    moves = [asks(CALL, waiting=False), asks(CALL, waiting=False), says("done")]
    run = await bench.run({0: moves}, ONE, settings=with_tools(toolbox))
    assert run.texts[1:] == [("0", "output 1"), ("0", "output 2")]


async def test_failing_functions_are_counted(bench: RowBench) -> None:
    """The model gets the error, the row continues, and the outcome has the number of failed calls."""
    toolbox = Toolbox(answer=lambda call, number: ToolOutput(call.call_id, "no luck", failed=number == 1))
    run = await bench.run({0: [asks(CALL, OTHER, waiting=True), says("done")]}, ONE, settings=with_tools(toolbox))
    assert bench.outcome().extras == {"tool_calls": 2, "tool_errors": 1}
    statistics = run.engine.statistics()
    assert (statistics.tool_calls, statistics.tool_errors) == (2, 1)


@each_way_to_call
async def test_too_many_rounds(bench: RowBench, waiting: bool) -> None:
    """A model that does not stop asking fails its row; the last request for functions is not obeyed, but billed."""
    toolbox = Toolbox()
    calls = [asks(ToolCall(str(number), "f", "{}"), waiting=waiting) for number in range(4)]
    run = await bench.run({0: calls}, ONE, settings=with_tools(toolbox, max_tool_rounds=2))
    assert len(toolbox.called) == 2
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, outcome.extras) == ("too_many_tool_rounds", {"tool_calls": 2, "tool_errors": 0})
    assert len(run.service.of("cancel")) == waiting
    assert outcome.usage.total_tokens == (None if waiting else 3 * TOKENS)


@each_way_to_call
async def test_no_functions_here(bench: RowBench, waiting: bool) -> None:
    """A model that asks for functions where there are none fails its row; what it took is known."""
    await bench.run({0: [asks(CALL, waiting=waiting)]}, ONE, settings=DialogueSettings())
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert outcome.error_type == "requires_action"
    assert outcome.usage.total_tokens == (None if waiting else TOKENS)


@each_way_to_call
async def test_time_runs_out_in_a_function(bench: RowBench, waiting: bool) -> None:
    """The row fails, and the batch continues; a run that waits is cancelled, one that ended needs nothing."""
    toolbox = Toolbox(takes_s=100.0)
    rows = [*ONE, row(("q",), number=1)]
    run = await bench.run({0: [asks(CALL, waiting=waiting)]}, rows, settings=with_tools(toolbox), timeout_s=10.0)
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert outcome.error_type == "row_timeout"
    assert outcome.run_id == "run_0_1"
    assert [each.attempt.run_id for each in run.service.of("cancel")] == (["run_0_1"] if waiting else [])
    assert isinstance(bench.outcome("1"), Completed)
    assert outcome.usage.total_tokens == (None if waiting else TOKENS)


async def test_functions_are_called_again_after_their_time_ran_out(bench: RowBench) -> None:
    """A retry does not pay again for the run that asked for them."""
    await bench.run({0: [asks(CALL, waiting=False)]}, ONE, settings=with_tools(Toolbox(takes_s=100.0)), timeout_s=10.0)
    second = await bench.run({0: [says("done")]}, ONE, settings=with_tools(Toolbox()), retry_failed=True)
    assert second.texts == [("0", "output 1")]
    assert bench.spent() == 2 * TOKENS / 100


@each_way_to_call
async def test_killed_in_a_function(bench: RowBench, waiting: bool) -> None:
    """The run that asked is not created again: its functions are called, and it continues."""
    slow, quick = Toolbox(takes_s=5.0), Toolbox()
    await bench.run({0: [asks(CALL, waiting=waiting)]}, ONE, settings=with_tools(slow), killed_after_s=2.0)
    moves = [asks(CALL, waiting=True), says("done")] if waiting else [says("done")]
    second = await bench.run({0: moves}, ONE, settings=with_tools(quick))
    assert second.texts == [("0", "output 1")]
    assert [each.method for each in second.service.asked] == (["follow", "answer"] if waiting else ["answer"])
    (told,) = second.service.of("answer")
    assert (told.attempt.key, told.exchange.round) == ("b-0-1", 1)
    assert bench.outcome().usage.total_tokens == (TOKENS if waiting else 2 * TOKENS)


@each_way_to_call
async def test_killed_behind_a_function(bench: RowBench, waiting: bool) -> None:
    """The output of a function is sent again as it was, and the function is not called again."""
    toolbox, later = Toolbox(), Toolbox(answer=lambda call, _: ToolOutput(call.call_id, "something else"))
    lost = Move(end=None, ids=None)
    await bench.run({0: [asks(CALL, waiting=waiting), lost]}, ONE, settings=with_tools(toolbox), killed_after_s=5.0)
    moves = [asks(CALL, waiting=True), says("done")] if waiting else [says("done")]
    second = await bench.run({0: moves}, ONE, settings=with_tools(later))
    assert later.called == []
    assert second.texts == [("0", "output 1")]
    assert bench.outcome().extras == {"tool_calls": 1, "tool_errors": 0}


@pytest.mark.parametrize("rounds", [1, 2, 3])
async def test_killed_in_any_round(bench: RowBench, rounds: int) -> None:
    """The request of the round at hand is repeated under the key and the round that it had."""
    toolbox = Toolbox()
    asked = [asks(ToolCall(str(number), "f", "{}"), waiting=False) for number in range(rounds)]
    first = await bench.run(
        {0: [*asked, Move(end=None, ids=None)]}, ONE, settings=with_tools(toolbox), killed_after_s=rounds + 0.5
    )
    second = await bench.run({0: [says("done")]}, ONE, settings=with_tools(toolbox))
    before, after = first.service.of("answer")[-1], second.service.of("answer")[0]
    assert (before.attempt.key, before.exchange) == (
        after.attempt.key,
        replace(after.exchange, turn=before.exchange.turn),
    )
    assert before.exchange.round == rounds
    assert len(toolbox.called) == rounds
    assert bench.outcome().usage.total_tokens == (rounds + 1) * TOKENS


async def test_a_run_of_a_later_round_is_followed(bench: RowBench) -> None:
    """Killed when the run after the outputs had an id, the batch follows it; the next request has the next round."""
    toolbox = Toolbox()
    await bench.run({0: [asks(CALL, waiting=False), NEVER]}, ONE, settings=with_tools(toolbox), killed_after_s=1.5)
    second = await bench.run({0: [asks(OTHER, waiting=False), says("done")]}, ONE, settings=with_tools(toolbox))
    assert [each.method for each in second.service.asked] == ["follow", "answer"]
    assert second.service.asked[0].attempt.run_id == "run_0_2"
    assert (second.texts, second.service.asked[1].exchange.round) == ([("0", "output 2")], 2)
    assert len(toolbox.called) == 2


@each_way_to_call
async def test_a_fault_behind_a_function(bench: RowBench, waiting: bool) -> None:
    """The outputs are sent again as they were; no function is called twice, and no round is counted twice."""
    toolbox = Toolbox()
    again = [asks(CALL, waiting=True)] if waiting else []
    moves = [asks(CALL, waiting=waiting), faults(status_code=503), *again, says("done")]
    run = await bench.run({0: moves}, ONE, settings=with_tools(toolbox, max_tool_rounds=1))
    assert toolbox.called == [CALL]
    assert run.texts[1:] == [("0", "output 1")] * 2
    assert {each.exchange.round for each in run.service.of("answer")[1:]} == {1}
    assert bench.outcome().response == "done"


async def test_another_run_in_place_of_one_that_waited(bench: RowBench) -> None:
    """A run that fails after its functions is created again from the message, and all rounds are available again."""
    toolbox = Toolbox()
    moves = [
        asks(CALL, waiting=True, text="hm"),
        faults(run_ended=True),
        asks(OTHER, waiting=True, text="let me see"),
        says("done"),
    ]
    run = await bench.run({0: moves}, ONE, settings=with_tools(toolbox, max_tool_rounds=1))
    assert run.texts == [("0", "q"), ("0", "output 1"), ("0", "q"), ("0", "output 2")]
    asked = run.service.of("answer")
    said = [[message["content"] for message in each.exchange.partial] for each in asked]
    assert said == [[], ["hm"], [], ["let me see"]]
    assert bench.outcome().response == "done"


async def test_another_run_behind_outputs(bench: RowBench) -> None:
    """Where each round is a run, only the one that failed is made again, under another key."""
    toolbox = Toolbox()
    moves = [asks(CALL, waiting=False), faults(run_ended=True, usage=Usage(1, 1, 2)), says("done")]
    run = await bench.run({0: moves}, ONE, settings=with_tools(toolbox))
    assert run.texts == [("0", "q"), ("0", "output 1"), ("0", "output 1")]
    assert [each.attempt.key for each in run.service.of("answer")] == ["b-0-1", "b-0-1", "b-0-2"]
    assert bench.outcome().usage.total_tokens == 2 * TOKENS + 2


async def test_interrupted_in_a_function(bench: RowBench) -> None:
    """Ctrl-C in a call: the row stays in flight, and nothing is paid for again."""
    await bench.run(
        {0: [asks(CALL, waiting=False)]}, ONE, settings=with_tools(Toolbox(takes_s=100.0)), stop_after_s=2.0
    )
    assert not bench.ended()
    second = await bench.run({0: [says("done")]}, ONE, settings=with_tools(Toolbox()))
    assert second.texts == [("0", "output 1")]
