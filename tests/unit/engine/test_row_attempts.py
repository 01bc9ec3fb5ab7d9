"""The attempts at a row over a scripted service and a real journal, in virtual time: keys, retries, deadlines, resumes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import anyio
import pytest

from batchrun.engine import RetryPolicy, RowTask, Stop
from batchrun.engine.service import Reply
from batchrun.errors import (
    ConnectionLost,
    PermanentFault,
    RateLimited,
    RunLost,
    ServerFault,
    ServiceFault,
    Shortage,
    Silence,
    Unavailable,
)
from batchrun.journal import Journal
from batchrun.records import Attempt, Completed, Failed
from batchrun.token_usage import Usage
from tests.support.engine_bench import asks, bench, columns, resumed, transient
from tests.support.rows import noon, prompt
from tests.support.scripted_service import Move, ScriptedService, answered
from tests.support.virtual_time import VirtualTimeLoop

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


# -- attempts and keys ------------------------------------------------------------------------------------------


async def test_a_lost_reply_is_asked_for_under_the_same_key(journal: Journal) -> None:
    """Without the id of a run, the request is repeated under the same idempotency key, and counted as repeated."""
    moves = [Move(transient(ConnectionLost), ids=None), Move(transient(Silence), ids=None), Move()]
    b = bench(journal, ScriptedService({0: moves}))
    await b.engine.run(asks(1))
    assert [(asked.method, asked.attempt.key) for asked in b.service.asked] == [("answer", "b-0-1")] * 3
    assert b.engine.statistics().created_again == 2
    assert columns(journal, 0, "number", "generation", "fault_type") == [
        (1, 1, "server_error"),
        (2, 1, "server_error"),
        (3, 1, None),
    ]
    assert b.outcome(0).attempts == 3


@pytest.mark.parametrize(("status", "again"), [(429, 0), (500, 0), (504, 1), (408, 1)])
async def test_what_may_have_been_done_twice_is_counted(journal: Journal, status: int, again: int) -> None:
    """After a gateway's timeout a run may exist; after an error of the service it cannot."""
    kind = RateLimited if status == 429 else ServerFault
    moves = [Move(transient(kind, status_code=status), ids=None), Move()]
    b = bench(journal, ScriptedService({0: moves}))
    await b.engine.run(asks(1))
    assert b.engine.statistics().created_again == again


async def test_a_run_that_was_seen_is_followed_and_never_made_again(journal: Journal) -> None:
    """After a fault that follows the ids, every further attempt follows that run."""
    moves = [Move(transient(), ids=("t", "r")), Move(transient(ConnectionLost)), Move()]
    b = bench(journal, ScriptedService({0: moves}))
    await b.engine.run(asks(1))
    assert [asked.method for asked in b.service.asked] == ["answer", "follow", "follow"]
    assert {asked.attempt.run_id for asked in b.service.of("follow")} == {"r"}
    assert b.engine.statistics().created_again == 0
    assert (b.outcome(0).thread_id, b.outcome(0).run_id) == ("t", "r")


async def test_a_failed_run_is_followed_by_another_under_a_new_key(journal: Journal) -> None:
    """A run that failed with `rate_limit_exceeded` costs a new run, whose key no service takes for the old one."""
    moves = [Move(transient(RateLimited, run_ended=True, usage=Usage(7, 1, 8)), ids=("t1", "r1")), Move()]
    b = bench(journal, ScriptedService({0: moves}))
    await b.engine.run(asks(1))
    assert [asked.method for asked in b.service.asked] == ["answer", "answer"]
    assert [asked.attempt.key for asked in b.service.asked] == ["b-0-1", "b-0-2"]
    assert b.service.asked[1].attempt.run_id is None
    assert columns(journal, 0, "run_id", "run_ended") == [("r1", 1), ("run_0_2", 0)]
    assert b.engine.statistics().created_again == 0


async def test_tokens_of_failed_runs_are_counted(journal: Journal) -> None:
    """What failed runs took is part of the row's usage: it was billed."""
    moves = [Move(transient(run_ended=True, usage=Usage(7, 1, 8))), Move(Reply("completed", "x", Usage(7, 3, 10)))]
    b = bench(journal, ScriptedService({0: moves}))
    await b.engine.run(asks(1))
    assert b.outcome(0).usage.total_tokens == 18


async def test_a_lost_run_is_made_again_and_counted(journal: Journal) -> None:
    """A run that the service no longer knows is created again, and counted."""
    last = Attempt(1, 1, "b-0-1", "t", "r")
    b = bench(journal, ScriptedService({0: [Move(transient(RunLost, run_ended=True)), Move()]}))
    journal.begin_attempt(prompt(0), last, noon())
    await b.engine.run([RowTask(prompt(0), last)])
    assert [asked.method for asked in b.service.asked] == ["follow", "answer"]
    assert b.service.asked[1].attempt.key == "b-0-2"
    assert b.engine.statistics().created_again == 1


async def test_the_last_fault_is_the_rows_outcome(journal: Journal) -> None:
    """After five attempts the row fails with the last fault; the batch continues."""
    b = bench(journal, ScriptedService({0: [Move(transient(status_code=500), ids=None)] * 9}))
    await b.engine.run(asks(2))
    outcome = b.outcome(0)
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, outcome.error, outcome.attempts) == ("server_error", "not now", 5)
    assert isinstance(b.outcome(1), Completed)
    assert b.engine.stop is None


async def test_permanent_faults_are_not_tried_again(journal: Journal) -> None:
    """A permanent fault fails the row at its first attempt."""
    b = bench(journal, ScriptedService({0: [Move(PermanentFault("too long", error_type="bad"), ids=None)]}))
    await b.engine.run(asks(1))
    assert len(b.service.asked) == 1
    assert isinstance(b.outcome(0), Failed)


async def test_the_run_of_a_row_that_fails_is_cancelled(journal: Journal) -> None:
    """If a row fails while its run may still be running, the run is cancelled, so that it costs no more."""
    moves = [Move(PermanentFault("wants tools", error_type="requires_action"), ids=("t", "r"))]
    b = bench(journal, ScriptedService({0: moves}))
    await b.engine.run(asks(1))
    assert [asked.attempt.run_id for asked in b.service.of("cancel")] == ["r"]
    assert columns(journal, 0, "run_ended") == [(1,)]


async def test_back_off(journal: Journal) -> None:
    """With the least jitter, five attempts wait half a second, one, two and four."""
    b = bench(journal, ScriptedService({0: [Move(transient(), ids=None, after_s=0.0)] * 5}))
    await b.engine.run(asks(1))
    assert [asked.at_s for asked in b.service.asked] == pytest.approx([0, 0.5, 1.5, 3.5, 7.5], abs=1e-3)


async def test_rows_that_wait_for_a_retry_are_counted(journal: Journal) -> None:
    """The statistics have the rows that wait for their next attempt, and none once they have ended."""
    b = bench(journal, ScriptedService({0: [Move(transient(), ids=None, after_s=0.0), Move(after_s=1.0)]}))
    seen = []

    async def look() -> None:
        for wait_s in (0.25, 0.5):  # in the wait of half a second, and in the second attempt
            await anyio.sleep(wait_s)
            seen.append(b.engine.statistics().retrying)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        await b.engine.run(asks(1))
    assert (seen, b.engine.statistics().retrying) == ([1, 0], 0)


@pytest.mark.parametrize("kind", [RateLimited, ServerFault])
async def test_retry_after_holds_the_whole_batch(journal: Journal, kind: type[ServiceFault]) -> None:
    """429 and 503 with Retry-After: neither this row nor a new one is sent before the time the service named."""
    moves = {0: [Move(transient(kind, retry_after_s=30.0), ids=None, after_s=0.5), Move()]}
    b = bench(journal, ScriptedService(moves), limits={"concurrency": 2})
    await b.engine.run(asks(3))
    assert [(asked.row_key, round(asked.at_s, 3)) for asked in b.service.asked[:2]] == [("0", 0.0), ("1", 0.0)]
    assert min(asked.at_s for asked in b.service.asked[2:]) == pytest.approx(30.5, abs=1e-3)


async def test_a_refusal_for_the_rate_cuts_the_slots_though_the_row_gives_up(journal: Journal) -> None:
    """The last attempt's 429 shows as much about the service as the first one's."""
    b = bench(
        journal,
        ScriptedService({0: [Move(transient(RateLimited), ids=None)]}),
        policy=RetryPolicy(max_attempts=1),
    )
    await b.engine.run(asks(1))
    assert b.engine.statistics().limits.capacity == 15


# -- time -------------------------------------------------------------------------------------------------


async def test_row_timeout_cancels_the_run(journal: Journal) -> None:
    """A row that exceeds its time limit fails as `row_timeout`, its run is cancelled, and the others continue."""
    b = bench(journal, ScriptedService({0: [Move(end=None, ids=("t", "r"))]}), limits={"row_timeout_s": 60.0})
    await b.engine.run(asks(3))
    outcome = b.outcome(0)
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, outcome.run_id) == ("row_timeout", "r")
    assert outcome.error == "not finished within 60 s (--row-timeout)"
    assert outcome.duration_s == pytest.approx(60.0, abs=1e-3)
    assert [asked.attempt.run_id for asked in b.service.of("cancel")] == ["r"]
    assert journal.counts().completed == 2


async def test_row_timeout_covers_all_attempts(journal: Journal) -> None:
    """The time of earlier attempts counts; the waits between them do not."""
    moves = [Move(transient(), ids=None, after_s=40.0), Move(end=None, ids=None)]
    b = bench(journal, ScriptedService({0: moves}), limits={"row_timeout_s": 60.0})
    await b.engine.run(asks(1))
    assert b.outcome(0).duration_s == pytest.approx(60.0, abs=1e-3)
    assert anyio.current_time() == pytest.approx(60.5, abs=1e-3)


async def test_a_run_that_cannot_be_cancelled_holds_nothing_up(journal: Journal) -> None:
    """Cancelling is given ten seconds; the row's outcome is its own fault all the same."""
    service = ScriptedService({0: [Move(end=None, ids=("t", "r"))]}, cancel=1e6)
    b = bench(journal, service, limits={"row_timeout_s": 1.0})
    await b.engine.run(asks(1))
    assert isinstance(b.outcome(0), Failed)
    assert b.outcome(0).run_id == "r"
    assert anyio.current_time() == pytest.approx(11.0, abs=1e-2)
    assert columns(journal, 0, "run_ended") == [(0,)]


async def test_a_fault_of_cancelling_is_not_the_rows(journal: Journal) -> None:
    """Where the service refuses to cancel, the row still says why it failed itself."""
    service = ScriptedService({0: [Move(end=None, ids=("t", "r"))]}, cancel=ServerFault("no", error_type="no"))
    b = bench(journal, service, limits={"row_timeout_s": 1.0})
    await b.engine.run(asks(1))
    outcome = b.outcome(0)
    assert isinstance(outcome, Failed)
    assert outcome.error_type == "row_timeout"


async def test_a_run_that_ended_unseen_is_not_given_up(journal: Journal) -> None:
    """A row out of time whose run refuses to be cancelled, since it has ended, gets the answer that was paid for."""
    service = ScriptedService(
        {0: [Move(end=None, ids=("t", "r")), Move(answered("late"))]},
        cancel=PermanentFault("Cannot cancel run with status 'completed'.", error_type="http_400"),
    )
    b = bench(journal, service, limits={"row_timeout_s": 1.0})
    await b.engine.run(asks(1))
    outcome = b.outcome(0)
    assert isinstance(outcome, Completed)
    assert (outcome.response, outcome.run_id) == ("late", "r")
    assert [asked.method for asked in service.asked] == ["answer", "cancel", "follow"]


async def test_a_suspended_process_costs_no_row(journal: Journal) -> None:
    """Where the deadline of a row passed while the process was suspended, the row is tried again with all its time."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)

    def suspend() -> None:
        loop.now_s += 3_600

    loop.call_later(10, suspend)
    service = ScriptedService({0: [Move(end=None, ids=None), Move(answered("yes"), after_s=50.0)]})
    b = bench(journal, service, limits={"row_timeout_s": 60.0})
    await b.engine.run(asks(1))
    assert isinstance(b.outcome(0), Completed)
    assert [asked.method for asked in service.asked] == ["answer", "answer"]
    assert columns(journal, 0, "fault_type") == [("suspended",), (None,)]


async def test_a_run_that_neither_ends_nor_stops_is_left(journal: Journal) -> None:
    """A run that refuses to be cancelled and continues is only waited for briefly."""
    service = ScriptedService(
        {0: [Move(end=None, ids=("t", "r")), Move(end=None)]}, cancel=PermanentFault("no", error_type="http_400")
    )
    b = bench(journal, service, limits={"row_timeout_s": 1.0})
    await b.engine.run(asks(1))
    outcome = b.outcome(0)
    assert isinstance(outcome, Failed)
    assert outcome.error_type == "row_timeout"


# -- resuming ---------------------------------------------------------------------------------------------------


async def test_a_row_in_flight_is_re_attached(journal: Journal) -> None:
    """A run of an earlier process is followed by its id; no other is created."""
    last = Attempt(2, 1, "b-0-1", "t", "r")
    journal.begin_attempt(prompt(0), last, noon())
    b = bench(journal, ScriptedService())
    await b.engine.run([RowTask(prompt(0), last)])
    assert [(asked.method, asked.attempt.run_id) for asked in b.service.asked] == [("follow", "r")]
    assert b.outcome(0).attempts == 3
    assert b.engine.statistics().created_again == 0


async def test_a_request_without_a_reply_is_repeated_under_its_key(journal: Journal) -> None:
    """Killed between sending and seeing the ids: the next process sends the same key and counts it."""
    last = Attempt(1, 1, "b-0-1")
    journal.begin_attempt(prompt(0), last, noon())
    b = bench(journal, ScriptedService())
    await b.engine.run([RowTask(prompt(0), last)])
    assert [(asked.method, asked.attempt.key) for asked in b.service.asked] == [("answer", "b-0-1")]
    assert b.engine.statistics().created_again == 1


@pytest.mark.parametrize(
    ("kind", "status_code", "again"),
    [
        (RateLimited, 429, 0),
        (ServerFault, 500, 0),
        (Unavailable, 503, 0),
        (Unavailable, None, 0),
        (Shortage, None, 0),
        (Unavailable, 502, 1),
        (ServerFault, 504, 1),
        (ConnectionLost, None, 1),
        (Silence, None, 1),
    ],
)
async def test_the_next_process_counts_only_what_may_have_been_acted_on(
    journal: Journal, kind: type[ServiceFault], status_code: int | None, again: int
) -> None:
    """The journal has the last fault: a request that the service did not accept is repeated without being counted."""
    fault = transient(kind, error_type="connection_error", status_code=status_code)
    first = bench(journal, ScriptedService({0: [Move(fault, ids=None)]}))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.engine.run, asks(1))
        await anyio.sleep(1.2)  # the attempt has ended after a second, and the row waits for its next one
        first.engine.request_stop(Stop("enough", 130), 0.0)
    b = await resumed(journal)
    assert [(asked.method, asked.attempt.key) for asked in b.service.asked] == [("answer", "b-0-1")]
    assert b.engine.statistics().created_again == again


async def test_a_row_out_of_time_may_have_been_acted_on(journal: Journal) -> None:
    """A request that was given up after the row's time is counted when the next process sends it again."""
    first = bench(journal, ScriptedService({0: [Move(after_s=1e6, ids=None)]}), limits={"row_timeout_s": 5.0})
    await first.engine.run(asks(1))
    b = await resumed(journal)
    assert b.engine.statistics().created_again == 1


async def test_a_failed_run_is_not_followed_by_the_next_process(journal: Journal) -> None:
    """Killed after a run failed: the next process makes another one under the next key."""
    last = Attempt(1, 1, "b-0-1", "t", "r")
    journal.begin_attempt(prompt(0), last, noon())
    b = bench(journal, ScriptedService())
    await b.engine.run([RowTask(prompt(0), replace(last, run_ended=True))])
    assert [(asked.method, asked.attempt.key) for asked in b.service.asked] == [("answer", "b-0-2")]


@pytest.mark.parametrize("status", ["cancelled", "expired"])
async def test_a_run_that_ended_between_two_processes_is_replaced(journal: Journal, status: Any) -> None:
    """A run of an earlier process that was cancelled or has expired is replaced by another one, once, and its tokens
    are counted."""
    last = Attempt(1, 1, "b-0-1", "t", "r")
    journal.begin_attempt(prompt(0), last, noon())
    ended = Reply(status, "", Usage(5, 2, 7), "m", f"run_{status}", f"the run ended as {status}")
    b = bench(journal, ScriptedService({0: [Move(ended)]}))
    await b.engine.run([RowTask(prompt(0), last)])
    asked = [(asked.method, asked.attempt.number, asked.attempt.key) for asked in b.service.asked]
    assert asked == [("follow", 2, "b-0-1"), ("answer", 3, "b-0-2")]
    assert (b.outcome(0).status, b.outcome(0).usage.total_tokens) == ("completed", 7 + 15)
    assert columns(journal, 0, "run_ended", "fault_type")[1:] == [(1, f"run_{status}"), (0, None)]


async def test_a_run_that_was_cancelled_twice_fails_its_row(journal: Journal) -> None:
    """The run in place of one that was cancelled is not replaced too."""
    last = Attempt(1, 1, "b-0-1", "t", "r")
    journal.begin_attempt(prompt(0), last, noon())
    ended = Reply("cancelled", "", Usage(), "m", "run_cancelled", "the run ended as cancelled")
    b = bench(journal, ScriptedService({0: [Move(ended), Move(ended)]}))
    await b.engine.run([RowTask(prompt(0), last)])
    assert b.outcome(0).status == "cancelled"


# -- ends of runs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["failed", "expired", "cancelled"])
async def test_runs_that_end_without_an_answer(journal: Journal, status: Any) -> None:
    """The row fails with the run's status and reason, and keeps text and usage."""
    end = Reply(status, "half an ans", Usage(5, 2, 7), "m", "because", "it was so")
    b = bench(journal, ScriptedService({0: [Move(end)]}))
    await b.engine.run(asks(1))
    outcome = b.outcome(0)
    assert isinstance(outcome, Failed)
    assert (outcome.status, outcome.error_type, outcome.error) == (status, "because", "it was so")
    assert (outcome.response, outcome.usage.total_tokens) == ("half an ans", 7)
    assert columns(journal, 0, "run_ended", "fault_type") == [(1, "because")]


async def test_an_answer_cut_short_is_an_answer(journal: Journal) -> None:
    """`incomplete` is kept with its reason, and is not counted among the failures."""
    b = bench(journal, ScriptedService(otherwise=Move(Reply("incomplete", "The ans", reason="max_completion_tokens"))))
    await b.engine.run(asks(30))
    outcome = b.outcome(0)
    assert isinstance(outcome, Completed)
    assert (outcome.status, outcome.reason) == ("incomplete", "max_completion_tokens")
    assert b.engine.stop is None
    assert b.engine.statistics().incomplete == 30


async def test_costs_are_summed(journal: Journal) -> None:
    """Each row's cost is what the price list says for its whole usage, and the statistics add them up."""

    def price(model: str | None, usage: Usage) -> float | None:
        return (usage.prompt_tokens or 0) / 100 if model == "m" else None

    b = bench(journal, ScriptedService(), price=price)
    await b.engine.run(asks(3))
    assert b.outcome(0).cost_usd == pytest.approx(0.1)
    assert b.engine.statistics().cost_usd == pytest.approx(0.3)


async def test_duration_leaves_out_waits(journal: Journal) -> None:
    """`duration_s` is the time of the attempts, without the waits between them."""
    b = bench(journal, ScriptedService({0: [Move(transient(), ids=None, after_s=2.0), Move(after_s=3.0)]}))
    await b.engine.run(asks(1))
    assert b.outcome(0).duration_s == pytest.approx(5.0, abs=1e-3)


async def test_keys_are_plain_and_distinct(journal: Journal) -> None:
    """Any row key gives an idempotency key that fits into a header, a different one for each row."""
    b = bench(journal, ScriptedService())
    keys = ["7", "é", "a b", "x" * 400, "", "a\nb"]
    await b.engine.run([RowTask(replace(prompt(0), row_key=key)) for key in keys])
    sent = [asked.attempt.key for asked in b.service.asked]
    assert sent[0] == "b-7-1"
    assert len(set(sent)) == len(keys)
    assert all(key.isascii() and key.isprintable() and " " not in key and len(key) <= 64 for key in sent)
