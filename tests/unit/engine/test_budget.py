"""The budget: money is reserved and released, and rows whose cost is bounded never exceed it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.engine import Budget, Engine, FixedPurse, Limits, RowTask, Stop
from batchrun.engine.attempts import first_attempt
from batchrun.errors import ConnectionLost, PermanentFault, RateLimited, RunLost, ServerFault, Unavailable
from batchrun.journal import Journal
from batchrun.records import EMPTY_ANSWER, Attempt, Reply
from batchrun.token_usage import Usage
from tests.support.engine_bench import engine_for
from tests.support.row_bench import TWO, RowBench, row
from tests.support.rows import NOON, prompt
from tests.support.scripted_service import Move, ScriptedService, answered

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


def cent_a_token(usage: Usage) -> float | None:
    """A cent for every token, so that sums are easy to see."""
    return (usage.total_tokens or 0) / 100


async def run(
    journal: Journal, budget: Budget, rows: Iterable[int], completion_tokens: int, concurrency: int = 4
) -> Engine:
    """Rows of 20 characters that take 10 tokens each, and `completion_tokens`."""
    usage = Usage(10, completion_tokens, 10 + completion_tokens)
    service = ScriptedService(otherwise=Move(answered(usage=usage)))
    limits = Limits(concurrency=concurrency)
    engine = engine_for(service, journal, limits, price=lambda _model, used: cent_a_token(used), budget=budget)
    await engine.run([RowTask(prompt(row, "x" * 20)) for row in rows])
    return engine


async def test_a_budget_with_a_bound_is_never_passed(journal: Journal) -> None:
    """With a bound on the completion, the batch never spends more than its budget, whatever is in flight."""
    budget = Budget(FixedPurse(2.00), 0.0, cent_a_token, max_completion_tokens=10)
    engine = await run(journal, budget, range(100), completion_tokens=10)
    assert journal.spent_usd() == pytest.approx(2.00)
    assert engine.stop is not None
    assert engine.stop.exit_code == 4
    assert "$2 is reached: $2.0000 is spent" in engine.stop.reason
    assert journal.counts().completed == 10


async def test_money_set_aside_is_given_back(journal: Journal) -> None:
    """Rows that cost less than was reserved for them leave room for others: the whole budget is used."""
    budget = Budget(FixedPurse(3.00), 0.0, cent_a_token, max_completion_tokens=200)
    await run(journal, budget, range(100), completion_tokens=1, concurrency=50)
    # The last row admitted needs 2.10 free (10 tokens and 200), so that at least 0.90 was spent before it.
    assert 0.90 <= journal.spent_usd() <= 3.00


async def test_earlier_runs_count(journal: Journal) -> None:
    """The cost of earlier runs counts; with a larger budget the same batch continues."""
    await run(journal, Budget(FixedPurse(1.00), 0.0, cent_a_token, max_completion_tokens=10), range(100), 10)
    spent = journal.spent_usd()
    again = await run(journal, Budget(FixedPurse(1.00), spent, cent_a_token, max_completion_tokens=10), range(100), 10)
    assert again.statistics().completed == 0
    assert again.stop is not None
    assert journal.spent_usd() == spent


async def test_a_batch_within_its_budget_does_not_stop(journal: Journal) -> None:
    """All rows run if the budget suffices."""
    engine = await run(journal, Budget(FixedPurse(100.0), 0.0, cent_a_token), range(50), 10)
    assert engine.stop is None
    assert journal.counts().completed == 50


async def test_a_row_of_unknown_cost_counts_as_what_was_set_aside() -> None:
    """If the service reports no usage, each row counts with the money reserved for it."""
    budget = Budget(FixedPurse(1.00), 0.0, cent_a_token, max_completion_tokens=10)
    reserved = await budget.reserve(50)
    assert reserved is not None
    budget.settle(reserved, 50, Usage(), None)
    assert budget.spent_usd == budget.unknown_usd == reserved > 0
    assert budget.reserved_usd == 0


async def test_admission_waits_for_rows_in_flight_to_give_back() -> None:
    """While a row in flight may release money, the next row waits and the batch does not stop."""
    budget = Budget(FixedPurse(0.40), 0.0, cent_a_token, max_completion_tokens=20)
    first = await budget.reserve(10)
    assert first is not None
    assert first == pytest.approx(0.24)
    got: list[float | None] = []

    async def second() -> None:
        got.append(await budget.reserve(10))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        assert got == []
        budget.settle(first, 10, Usage(1, 1, 2), 0.02)
    assert got[0] is not None


async def test_engines_share_a_budget(journal: Journal) -> None:
    """Two engines with one budget together spend no more than it holds, and all of it; both stop."""
    budget = Budget(FixedPurse(2.00), 0.0, cent_a_token, max_completion_tokens=10)
    engines: list[Engine] = []

    async def engine(rows: Iterable[int]) -> None:
        engines.append(await run(journal, budget, rows, completion_tokens=10))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(engine, range(0, 100, 2))
        tasks.start_soon(engine, range(1, 100, 2))
    assert journal.spent_usd() == pytest.approx(2.00)
    assert [each.stop is not None and each.stop.exit_code for each in engines] == [4, 4]
    assert all(each.statistics().completed > 0 for each in engines)


async def test_nobody_is_overtaken() -> None:
    """A dear row that waits for money gets it before a cheap one that came later, though that could be paid at once."""
    budget = Budget(FixedPurse(1.00), 0.0, cent_a_token, max_completion_tokens=20)
    first = await budget.reserve(50)
    assert first is not None
    order: list[int] = []

    async def later(chars: int) -> None:
        assert await budget.reserve(chars) is not None
        order.append(chars)

    async with anyio.create_task_group() as tasks:
        for chars in (150, 10):
            tasks.start_soon(later, chars)
            await anyio.wait_all_tasks_blocked()
        assert order == []
        assert budget.needed_usd == pytest.approx(0.80)
        budget.release(first)
        await anyio.wait_all_tasks_blocked()
        assert order == [150]
        assert budget.needed_usd == pytest.approx(0.24)
        budget.release(0.80)
    assert order == [150, 10]
    assert budget.needed_usd == 0.0


async def test_a_row_that_stops_waiting_lets_the_next_one_wait() -> None:
    """A cancelled wait leaves the line, and the budget needs no money for it any more."""
    budget = Budget(FixedPurse(0.40), 0.0, cent_a_token, max_completion_tokens=20)
    first = await budget.reserve(10)
    assert first is not None
    with anyio.move_on_after(1) as waited:
        await budget.reserve(20)
    assert waited.cancelled_caught
    assert budget.needed_usd == 0.0
    budget.release(first)
    assert await budget.reserve(10) == first


@given(costs=st.lists(st.tuples(st.integers(1, 400), st.integers(0, 60), st.integers(0, 40)), max_size=60))
def test_no_sequence_of_bounded_rows_passes_the_budget(costs: list[tuple[int, int, int]]) -> None:
    """For any rows whose tokens stay within the assumed ones, money spent and reserved never exceeds the budget."""

    async def play() -> None:
        budget = Budget(FixedPurse(5.0), 0.0, cent_a_token, max_completion_tokens=40)
        for chars, prompt_tokens, completion_tokens in costs:
            reserved = await budget.reserve(chars)
            if reserved is None:
                return
            used = Usage(min(prompt_tokens, int(chars * 0.4)), completion_tokens, None)
            total = (used.prompt_tokens or 0) + completion_tokens
            budget.settle(reserved, chars, used, min(reserved, total / 100))
            assert budget.spent_usd + budget.reserved_usd <= 5.0 + 1e-9

    anyio.run(play)


def lost() -> ConnectionLost:
    """A connection that closed after the request was sent: the service may have answered, and billed the answer."""
    return ConnectionLost("the connection closed", error_type="connection_error")


async def ask_one(journal: Journal, budget: Budget, move: Move) -> Engine:
    """One row of 20 characters, that takes 20 cents; its first request ends as `move` says."""
    service = ScriptedService({0: [move]}, otherwise=Move(answered(usage=Usage(10, 10, 20)), with_reply=True))
    engine = engine_for(service, journal, Limits(), price=lambda _model, used: cent_a_token(used), budget=budget)
    await engine.run([RowTask(prompt(0, "x" * 20))])
    return engine


async def test_a_request_whose_answer_was_lost_counts(journal: Journal) -> None:
    """It may have been billed: the money reserved for it counts as spent, and its repetition needs as much again."""
    budget = Budget(FixedPurse(0.40), 0.0, cent_a_token, max_completion_tokens=10)
    reserved_usd = budget.estimate(20)
    engine = await ask_one(journal, budget, Move(lost(), ids=None))
    assert engine.stop is None
    assert journal.counts().completed == 1
    assert (budget.spent_usd, budget.unknown_usd, budget.reserved_usd) == pytest.approx((0.38, reserved_usd, 0.0))
    assert journal.spending.unknown_usd() == reserved_usd


async def test_a_request_is_not_repeated_without_money(journal: Journal) -> None:
    """The row stays pending, and the batch stops; a later run with the same budget sends nothing."""
    limit_usd = 0.30
    budget = Budget(FixedPurse(limit_usd), 0.0, cent_a_token, max_completion_tokens=10)
    reserved_usd = budget.estimate(20)
    engine = await ask_one(journal, budget, Move(lost(), ids=None))
    assert engine.stop is not None
    assert f"$0.0000 is spent, up to ${reserved_usd:.4f} more for requests whose answer was not" in engine.stop.reason
    assert (journal.counts().ended, journal.spending.unknown_usd()) == (0, reserved_usd)
    again = Budget(FixedPurse(limit_usd), 0.0, cent_a_token, unknown_usd=reserved_usd, max_completion_tokens=10)
    later = await ask_one(journal, again, Move(answered()))
    assert later.stop is not None
    assert later.stop.reason == engine.stop.reason
    assert len(list(journal.attempts("0"))) == 1


async def test_a_refused_request_costs_nothing(journal: Journal) -> None:
    """The service has refused it: the money reserved for its row is free again, and a repetition needs no more."""
    budget = Budget(FixedPurse(0.30), 0.0, cent_a_token, max_completion_tokens=10)
    await ask_one(journal, budget, Move(RateLimited("wait", error_type="rate_limit", status_code=429), ids=None))
    assert journal.counts().completed == 1
    assert (budget.spent_usd, budget.unknown_usd) == pytest.approx((0.20, 0.0))


async def test_a_row_that_failed_for_nothing_costs_nothing(journal: Journal) -> None:
    """A row that the service refused for good does not use up the budget of the others."""
    budget = Budget(FixedPurse(0.30), 0.0, cent_a_token, max_completion_tokens=10)
    refused = PermanentFault("no", error_type="content_filter", status_code=400)
    await ask_one(journal, budget, Move(refused, ids=None))
    assert journal.counts().failed == 1
    assert (budget.spent_usd, budget.reserved_usd) == (0.0, 0.0)


async def test_a_row_with_a_run_continues_with_its_money(journal: Journal) -> None:
    """What counted as spent for a row in flight is reserved for it when it continues, so that it can always end."""
    in_flight_usd = 0.25
    journal.begin_attempt(prompt(0, "x" * 20), first_attempt("b", "0"), NOON, reserved_usd=in_flight_usd)
    journal.set_ids("0", 1, "thread", "run")
    last = Attempt(1, 1, "key", "thread", "run")
    budget = Budget(FixedPurse(0.30), 0.0, cent_a_token, unknown_usd=in_flight_usd, max_completion_tokens=10)
    service = ScriptedService(otherwise=Move(answered(usage=Usage(10, 10, 20)), with_reply=True))
    journal.look_back()
    engine = engine_for(
        service,
        journal,
        Limits(),
        price=lambda _model, used: cent_a_token(used),
        budget=budget,
        in_flight_usd=journal.spending.in_flight_usd(),
    )
    await engine.run([RowTask(prompt(0, "x" * 20), last)])
    assert [len(service.of("follow")), len(service.of("answer"))] == [1, 0]
    assert (budget.spent_usd, budget.unknown_usd, budget.reserved_usd) == pytest.approx((0.20, 0.0, 0.0))


MAY_BE_BILLED = Move(lost(), ids=None)


@pytest.mark.parametrize("thread_id", [None, "thread_1"], ids=["each its own thread", "one thread"])
@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_retry_gets_the_money_that_is_left(journal: Journal, thread_id: str | None, concurrency: int) -> None:
    """Rows that wait for a slot or for the lock of a thread have no money: a retry that needs it does not wait for them
    for ever, and the batch does not stop while there is enough."""
    service = ScriptedService(
        {0: [MAY_BE_BILLED]}, otherwise=Move(answered(usage=Usage(8, 10, 18)), ids=None, with_reply=True)
    )
    budget = Budget(FixedPurse(2.5 * 0.18), 0.0, cent_a_token, max_completion_tokens=10)
    limits = Limits(concurrency=concurrency)
    engine = engine_for(service, journal, limits, price=lambda _model, used: cent_a_token(used), budget=budget)
    with anyio.move_on_after(3600) as hours:
        await engine.run([RowTask(replace(prompt(row, "x" * 20), thread_id=thread_id)) for row in range(5)])
    assert not hours.cancelled_caught
    assert engine.stop is not None
    assert engine.stop.exit_code == 4
    assert (budget.spent_usd, budget.reserved_usd) == pytest.approx((2 * 0.18, 0.0))


async def test_rows_that_wait_for_a_thread_have_no_turn(journal: Journal) -> None:
    """A rate limit that lets fewer rows send does not keep the row that has the thread from its next attempt."""
    wait = Move(RateLimited("wait", error_type="rate_limit", status_code=429), ids=None)
    service = ScriptedService({row: [wait] for row in range(3)}, otherwise=Move(ids=None, with_reply=True))
    engine = engine_for(service, journal, Limits())
    with anyio.move_on_after(3600) as hours:
        await engine.run([RowTask(replace(prompt(row), thread_id=f"thread_{row % 3}")) for row in range(18)])
    assert not hours.cancelled_caught
    assert journal.counts().completed == 18


def failed_run(usage: Usage | None = None) -> ServerFault:
    return ServerFault("failed", error_type="server_error", run_ended=True, usage=usage)


NO_USAGE = Move(answered(usage=Usage()))
UNUSED = RateLimited("wait", error_type="rate_limit_exceeded", run_ended=True)


@pytest.mark.parametrize(
    ("turns", "moves", "unknown"),
    [
        (1, [Move(failed_run())], 1),
        (1, [Move(UNUSED)], 0),
        (1, [Move(RunLost("gone", error_type="run_lost", run_ended=True))], 1),
        (2, [NO_USAGE], 1),
        (2, [Move(), Move(failed_run()), Move()], 1),
        (2, [Move(), *[Move(lost(), ids=None)] * 3], 3),
        (2, [Move(), Move(PermanentFault("no", error_type="bad_request", status_code=400), ids=None)], 0),
        (2, [Move(), Move(replace(answered(usage=Usage()), status="failed"))], 1),
        (2, [Move(), Move(replace(answered(), status="failed"))], 0),
    ],
    ids=[
        "a failed run", "a run at a rate limit", "a lost run", "a turn without usage", "a failed run of a turn",
        "a turn that is lost", "a turn that is refused", "a turn that fails without usage", "a turn that fails",
    ],
)  # fmt: skip
async def test_what_nobody_knows_counts_beside_known_costs(
    bench: RowBench, turns: int, moves: list[Move], unknown: int
) -> None:
    """The cost that a row is known to have hides no other run of it; later runs count the same."""
    run = await bench.run({0: moves}, [row(TWO[:turns])], budget=100.0)
    assert run.budget is not None
    reserved_usd = run.budget.unknown_usd / max(unknown, 1)
    assert reserved_usd > 0 or not unknown
    with Journal(bench.path) as journal:
        assert (journal.counts().ended, journal.spent_usd() > 0) == (1, True)
        assert run.budget.spent_usd == pytest.approx(journal.spent_usd() + unknown * reserved_usd)
        assert journal.spending.unknown_usd() == pytest.approx(unknown * reserved_usd)
    assert run.budget.reserved_usd == 0


async def test_a_run_for_an_earlier_prompt_stays_spent(journal: Journal) -> None:
    """A row whose prompt has changed while it had a run needs money of its own: that run is paid, too."""
    earlier_usd = 0.25
    budget = Budget(FixedPurse(1.00), 0.0, cent_a_token, unknown_usd=earlier_usd, max_completion_tokens=10)
    service = ScriptedService(otherwise=Move(answered(usage=Usage(10, 10, 20)), with_reply=True))
    last = Attempt(1, 1, "key", "thread", "run", run_ended=True)
    engine = engine_for(
        service,
        journal,
        Limits(),
        price=lambda _model, used: cent_a_token(used),
        budget=budget,
        in_flight_usd={"0": earlier_usd},
    )
    await engine.run([RowTask(prompt(0, "x" * 20), last)])
    assert (budget.spent_usd, budget.unknown_usd) == pytest.approx((0.20 + earlier_usd, earlier_usd))


EMPTY = replace(answered("", usage=Usage(10, 10, 20)), status="incomplete", reason=EMPTY_ANSWER)


@pytest.mark.parametrize("first", [EMPTY, failed_run(Usage(10, 10, 20))], ids=["empty", "failed"])
async def test_another_run_needs_money_of_its_own(journal: Journal, first: Reply | ServerFault) -> None:
    """A run that was billed without an answer is followed by another one only if there is money for both. Rows that
    wait for such money do not wait for one another."""
    service = ScriptedService(
        {row: [Move(first)] for row in range(3)}, otherwise=Move(answered(usage=Usage(10, 10, 20)))
    )
    budget = Budget(FixedPurse(0.90), 0.0, cent_a_token, max_completion_tokens=12)
    engine = engine_for(service, journal, Limits(), price=lambda _model, used: cent_a_token(used), budget=budget)
    with anyio.move_on_after(3600) as hours:
        await engine.run([RowTask(prompt(row, "x" * 25)) for row in range(3)])
    assert not hours.cancelled_caught
    assert engine.stop is not None
    assert engine.stop.exit_code == 4
    assert (len(service.of("answer")), journal.counts().completed) == (4, 1)
    assert journal.spent_usd() == pytest.approx(0.40)
    unknown_usd = journal.spending.unknown_usd()
    assert budget.spent_usd == pytest.approx(0.40 + unknown_usd)
    assert budget.spent_usd <= 0.90
    assert f"$0.4000 is spent, up to ${unknown_usd:.4f} more" in engine.stop.reason


async def test_a_stop_ends_rows_that_wait_for_money(journal: Journal) -> None:
    """Rows that wait for the money of others end with these, and not only when the grace is over."""
    busy = Move(Unavailable("busy", error_type="server_error", status_code=503, retry_after_s=500.0), ids=None)
    service = ScriptedService({0: [MAY_BE_BILLED], 1: [busy]})
    budget = Budget(FixedPurse(0.45), 0.0, cent_a_token, max_completion_tokens=10)
    engine = engine_for(
        service, journal, Limits(concurrency=2), price=lambda _m, used: cent_a_token(used), budget=budget
    )

    async def stop() -> None:
        await anyio.sleep(10)
        engine.request_stop(Stop("Ctrl-C", 130), 3600.0)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop)
        await engine.run([RowTask(prompt(row, "x" * 20)) for row in range(2)])
    assert anyio.current_time() < 3600
    assert (budget.spent_usd, budget.reserved_usd) == pytest.approx((journal.spending.unknown_usd(), 0.0))
