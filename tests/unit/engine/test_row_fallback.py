"""A row whose model gives no answer is asked of the fallback model, once, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from batchrun.engine import DialogueSettings
from batchrun.errors import BatchRefused, PermanentFault, Refused, ServerFault
from batchrun.records import EMPTY_ANSWER, REFUSAL, Completed, Failed, Reply, ToolCall
from batchrun.token_usage import Usage
from tests.support.row_bench import (
    NEVER,
    TOKENS,
    RowBench,
    Toolbox,
    asks,
    faults,
    row,
)
from tests.support.scripted_service import Move, answered

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

ONE = [replace(row(("q",)), model="m")]
TWO = [replace(row(), model="m")]
OTHER = DialogueSettings(fallback_model="b")
TURNS = DialogueSettings(recorded=True, fallback_model="b")
CALL = ToolCall("call_1", "weather", "{}")
PRICES: dict[str | None, float] = {"m": 1.0, "b": 100.0}


def price(model: str | None, usage: Usage) -> float | None:
    """Return the cost as `PriceList` has it: runs that name a model have the price of that one."""
    return sum(PRICES[run.get("batchrun_model", model)] for run in _runs(usage.raw or {}))


def _runs(raw: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [leaf for run in raw["runs"] for leaf in _runs(run)] if "runs" in raw else [raw] if raw else []


def spent(name: str) -> Usage:
    return Usage(10, 5, TOKENS, raw={"run": name})


def refuses(reason: str = REFUSAL, **move: Any) -> Move:
    return Move(Reply("incomplete", "I cannot.", spent("refused"), "m", reason), **move)


def other(text: str = "yes", **move: Any) -> Move:
    return Move(replace(answered(text, usage=spent(text)), model="b"), **move)


@pytest.mark.parametrize(
    "first",
    [
        [refuses()],
        [refuses("content_filter")],
        [refuses(EMPTY_ANSWER), refuses(EMPTY_ANSWER)],
        [faults(PermanentFault, error_type="context_length_exceeded")],
        [faults(PermanentFault, error_type="invalid_prompt", status_code=400)],
        [faults(Refused, error_type="content_filter", status_code=403)],
        [Move(Reply("failed", "", spent("refused"), "m", "invalid_prompt", "no"))],
    ],
)
async def test_the_other_model_is_asked(bench: RowBench, first: list[Move]) -> None:
    """The fallback model is asked once, under its own key and on a thread of its own; the outcome has its answer and
    its name, the attempts of both, and the usage and cost of both."""
    run = await bench.run({0: [*first, other("B")]}, ONE, settings=OTHER, price=price)
    asked = run.service.of("answer")
    assert [each.exchange.own.model if each.exchange.own else None for each in asked] == [None] * len(first) + ["b"]
    assert len({each.attempt.key for each in asked}) == len(asked)
    assert asked[-1].exchange.thread_id is None
    outcome = bench.outcome()
    assert isinstance(outcome, Completed)
    assert (outcome.response, outcome.model, outcome.attempts) == ("B", "b", len(first) + 1)
    paid = sum(isinstance(each.end, Reply) for each in first)
    assert (outcome.usage.total_tokens, outcome.cost_usd) == (TOKENS * (paid + 1), paid + 100.0)


@pytest.mark.parametrize(
    "first",
    [
        [faults(ServerFault)] * 3,
        [faults(PermanentFault, error_type="bad_attachment")],
        [faults(PermanentFault, error_type="invalid_image_url", status_code=400)],
        [faults(PermanentFault, error_type="bad_reply")],
        [Move(Reply("expired", "", spent("x"), "m", "expired", "too late"))],
        [Move(Reply("incomplete", "half", spent("x"), "m", "max_completion_tokens"))],
    ],
)
async def test_the_other_model_is_not_asked(bench: RowBench, first: list[Move]) -> None:
    """Faults of the service, rows whose input is at fault, and answers that are only cut stay with the first model."""
    run = await bench.run({0: first}, ONE, settings=OTHER, price=price)
    assert all(each.exchange.own is None for each in run.service.of("answer"))
    assert bench.outcome().model != "b"


async def test_both_models_fail(bench: RowBench) -> None:
    """A row that both models fail names both; --retry-failed asks the fallback model again, and no cost is counted
    twice."""
    no = faults(PermanentFault, error_type="invalid_prompt")
    await bench.run({0: [refuses(), no]}, ONE, settings=OTHER, price=price)
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, outcome.model, outcome.cost_usd) == ("invalid_prompt", "b", 1.0)
    assert outcome.error.endswith("(fallback model b; m had ended with refusal)")
    run = await bench.run({0: [other()]}, ONE, settings=OTHER, price=price, retry_failed=True)
    assert [each.exchange.own.model for each in run.service.of("answer") if each.exchange.own] == ["b"]
    assert bench.outcome().status == "completed"
    assert bench.spent() == 101.0


async def test_a_refusal_of_both_is_an_answer(bench: RowBench) -> None:
    """A fallback model that refuses too is not replaced by another one, and its refusal is the answer."""
    await bench.run({0: [refuses(), refuses()]}, ONE, settings=OTHER, price=price)
    assert (bench.outcome().status, bench.outcome().attempts) == ("incomplete", 2)


@pytest.mark.parametrize("with_reply", [False, True])
@pytest.mark.parametrize("killed_after_s", [0.5, 1.5])
async def test_killed_on_the_way(bench: RowBench, killed_after_s: float, with_reply: bool) -> None:
    """After a kill the first model is not paid for again, and the run of the fallback model is followed by its id."""
    refusing = refuses(with_reply=with_reply)
    await bench.run({0: [refusing, NEVER]}, ONE, settings=OTHER, price=price, killed_after_s=killed_after_s)
    left = [refusing, other()] if killed_after_s < 1 else [other()]
    run = await bench.run({0: left}, ONE, settings=OTHER, price=price)
    follows = [each.exchange.own.model if each.exchange.own else None for each in run.service.of("follow")]
    assert follows == ([None] if killed_after_s < 1 and not with_reply else [] if killed_after_s < 1 else ["b"])
    outcome = bench.outcome()
    assert (outcome.response, outcome.model, outcome.usage.total_tokens) == ("yes", "b", 2 * TOKENS)
    assert (outcome.cost_usd, bench.spent()) == (101.0, 101.0)


async def test_killed_between_the_models(bench: RowBench) -> None:
    """After a kill between the end of the first model and the request to the other one, only the other one is asked."""
    waits = 510  # tokens per minute: the first request waits for 60 s, the second one for another 20 s
    await bench.run({0: [refuses()]}, ONE, settings=OTHER, price=price, killed_after_s=70, tpm=waits)
    assert bench.tries("number", "fault_type") == [(1, "refusal")]
    assert not bench.ended()
    run = await bench.run({0: [other()]}, ONE, settings=OTHER, price=price)
    assert [(each.method, each.exchange.own and each.exchange.own.model) for each in run.service.asked] == [
        ("answer", "b")
    ]
    assert (bench.outcome().usage.total_tokens, bench.spent()) == (2 * TOKENS, 101.0)


@pytest.mark.parametrize("killed_after_s", [None, 1.5, 2.5, 3.5])
async def test_turns_begin_again(bench: RowBench, killed_after_s: float | None) -> None:
    """The fallback model begins with the first turn and does not see the first one's answers, also after a kill in any
    of its turns; those are paid for once."""
    first = Move(answered("A", usage=spent("A")))
    moves = [first, refuses(), other("one"), other("two")]
    if killed_after_s is not None:
        ended = int(killed_after_s)
        await bench.run({0: [*moves[:ended], NEVER]}, TWO, settings=TURNS, price=price, killed_after_s=killed_after_s)
        moves = moves[ended:]
    run = await bench.run({0: moves}, TWO, settings=TURNS, price=price)
    outcome = bench.outcome()
    assert (outcome.response, outcome.model) == ("two", "b")
    assert bench.answers(TWO[0]) == {1: "one", 2: "two"}
    last = run.service.asked[-1].exchange
    assert last.turn.text == "two one"
    assert outcome.usage.total_tokens == 4 * TOKENS
    assert bench.spent() == outcome.cost_usd == 202.0


async def test_functions_are_called_for_the_other_model(bench: RowBench) -> None:
    """The functions that the fallback model calls are called for it: outputs for the first model are not reused."""
    toolbox = Toolbox()
    settings = DialogueSettings(recorded=True, call_tools=toolbox.call, fallback_model="b")
    moves = [asks(CALL, waiting=False), refuses(), asks(CALL, waiting=False), other()]
    run = await bench.run({0: moves}, ONE, settings=settings, price=price)
    assert len(toolbox.called) == 2
    assert [each.exchange.own is not None for each in run.service.of("answer")] == [False, False, True, True]
    assert bench.outcome().model == "b"


@pytest.mark.parametrize(("then", "models"), [("c", ["c"]), (None, [None])])
async def test_another_fallback_model(bench: RowBench, then: str | None, models: list[str | None]) -> None:
    """With another fallback model, or none, a run that was in flight is not followed, and what was paid is counted."""
    await bench.run({0: [refuses(), NEVER]}, ONE, settings=OTHER, price=price, killed_after_s=1.5)
    run = await bench.run({0: [other()]}, ONE, settings=DialogueSettings(fallback_model=then), price=price)
    assert [each.exchange.own.model if each.exchange.own else None for each in run.service.asked] == models
    assert bench.outcome().usage.total_tokens == 2 * TOKENS


@pytest.mark.parametrize("stop_after_s", [0.5, 1.5])
async def test_a_stopped_batch_asks_no_other(bench: RowBench, stop_after_s: float) -> None:
    """A batch that stops asks no further model; the next run of the batch does."""
    run = await bench.run(
        {0: [refuses(after_s=0.6), NEVER]}, ONE, settings=OTHER, price=price, stop_after_s=stop_after_s
    )
    assert not bench.ended()
    assert len(run.service.of("answer")) == (1 if stop_after_s < 0.6 else 2)


async def test_an_unknown_fallback_model_stops_the_batch(bench: RowBench) -> None:
    """A fallback model that the service does not have stops the batch, and the message names the option."""
    unknown = BatchRefused("no such model", error_type="model_not_found")
    unknown.setting = "model"
    run = await bench.run({0: [refuses(), Move(unknown, ids=None)]}, ONE, settings=OTHER, price=price)
    assert run.engine.stop is not None
    assert run.engine.stop.reason == "no such model (--fallback-model b)"
    run = await bench.run({0: [other()]}, ONE, settings=DialogueSettings(fallback_model="c"), price=price)
    assert bench.outcome().attempts == 3


async def test_a_run_that_ended_well_after_all(bench: RowBench) -> None:
    """A run that is given up, and turns out to have ended well, is an answer; a later turn that cannot be rendered is
    then no failure of the model."""
    gone = Move(PermanentFault("lost sight of it", error_type="run_unclear"))
    late = Move(replace(answered("A", usage=spent("A")), model="m"))
    prompts = [replace(row(("one {{ q }}", "{{ responses[0].x.y }}")), model="m")]
    refuses_to_stop = PermanentFault("it has ended", error_type="run_ended")
    run = await bench.run({0: [gone, late]}, prompts, settings=TURNS, price=price, cancel=refuses_to_stop)
    assert [each.method for each in run.service.asked] == ["answer", "cancel", "follow"]
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert outcome.error_type == "template_error"
