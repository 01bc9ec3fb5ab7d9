"""The attempts at one row: keys, generations, and which attempt follows a fault."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from batchrun.engine.attempts import Attempts
from batchrun.engine.retry import GiveUp, RetryAfter, RetryPolicy
from batchrun.errors import ConnectionLost, PermanentFault, RateLimited, RunLost, ServerFault, ServiceFault
from batchrun.records import Attempt, Reply, RunEnd, ToolCall

POLICY = RetryPolicy(max_attempts=3)


def attempts(last: Attempt | None = None, end: RunEnd | None = None, row_key: str = "7") -> Attempts:
    return Attempts(row_key, "batch_1", POLICY, last, end)


def fault(kind: type[ServiceFault] = ServerFault, **fields: Any) -> ServiceFault:
    return kind("not now", **{"error_type": "server_error", **fields})


def end_of(attempt: int, run_id: str | None, *calls: ToolCall) -> RunEnd:
    reply = Reply("requires_action" if calls else "completed", "hm", calls=calls)
    return RunEnd(1, 1, attempt, "q", reply, "t", run_id)


CALL = ToolCall("call_1", "f", "{}")
LAST = Attempt(4, 2, "batch_1-7-2", "t", "r", unseen=False)


def test_a_new_row() -> None:
    """A row that was never sent begins with attempt 1 under key 1, and nothing of it is in the journal."""
    made = attempts()
    assert made.current == Attempt(1, 1, "batch_1-7-1")
    assert (made.started, made.is_repeat, made.has_unwritten_ids) == (0, False, False)


@pytest.mark.parametrize("row_key", ["with blank", "ä", "x" * 41, ""])
def test_keys_of_unusual_rows(row_key: str) -> None:
    """A row key that does not fit into a header is replaced by its hash."""
    key = attempts(row_key=row_key).current.key
    assert key.isascii()
    assert key.startswith("batch_1-")
    assert key.endswith("-1")
    assert (row_key or "--") not in key
    assert len(key) < 64


def test_the_longest_key_that_stays() -> None:
    """A row key of 40 letters and digits is part of the idempotency key as it is."""
    assert attempts(row_key="x" * 40).current.key == f"batch_1-{'x' * 40}-1"


def test_a_run_of_an_earlier_process_is_followed() -> None:
    """An attempt that names its run is continued: the same key, the same run, the next number."""
    made = attempts(LAST)
    assert made.current == Attempt(5, 2, LAST.key, "t", "r", unseen=True)
    assert (made.started, made.is_repeat) == (4, False)


@pytest.mark.parametrize(("unseen", "repeated"), [(True, True), (False, False)])
def test_a_request_of_an_earlier_process_is_repeated(unseen: bool, repeated: bool) -> None:
    """An attempt without ids is sent again under its key; it counts as repeated if the service may have acted on it."""
    made = attempts(replace(LAST, run_id=None, unseen=unseen))
    assert (made.current.key, made.current.number, made.is_repeat) == (LAST.key, 5, repeated)


def test_a_run_that_failed_earlier_is_replaced() -> None:
    """After a run that has ended, the next attempt creates another under the next key."""
    made = attempts(replace(LAST, run_ended=True))
    assert made.current == Attempt(5, 3, "batch_1-7-3")
    assert not made.is_repeat


@pytest.mark.parametrize(("attempt", "generation"), [(3, 2), (4, 3), (5, 3)])
def test_a_turn_that_ended_is_not_followed(attempt: int, generation: int) -> None:
    """If the last attempt has ended its turn, the next one belongs to another run; an older end leaves it open."""
    assert attempts(LAST, end_of(attempt, "r")).current.generation == generation


def test_calls_that_wait_for_outputs() -> None:
    """A run that ended with function calls is left, under its own key, so that the outputs can be sent."""
    made = attempts(replace(LAST, unseen=False), end_of(4, "r", CALL))
    assert made.current == Attempt(5, 2, LAST.key, "t", None, unseen=True)
    assert attempts(LAST, end_of(3, "other", CALL)).current.run_id == "r"


def test_the_journal_knows_started_attempts() -> None:
    """The number of the last attempt in the journal changes when the current one is started, not before."""
    made = attempts(LAST)
    made.start()
    assert made.started == 5


def test_ids_that_come_with_the_reply_are_written_once() -> None:
    """Ids that came with the whole reply wait to be written; ids that came before are written already."""
    made = attempts()
    made.set_ids("t", "r", with_reply=False)
    assert not made.has_unwritten_ids
    made.set_ids("t", "r", with_reply=True)
    assert (made.current.thread_id, made.current.run_id) == ("t", "r")
    assert made.take_unwritten_ids()
    assert not made.take_unwritten_ids()


def test_a_retry_under_the_same_key() -> None:
    """After a transient error the same key asks for the same run, with the ids that are known."""
    made = attempts()
    made.set_ids("t", "r", with_reply=False)
    made.fail(fault())
    assert not made.retry(fault())
    assert made.current == Attempt(2, 1, "batch_1-7-1", "t", "r")
    assert not made.is_repeat


@pytest.mark.parametrize(
    ("failure", "run_id", "repeated"),
    [
        (fault(ConnectionLost), None, True),
        (fault(ConnectionLost), "r", False),
        (fault(RateLimited), None, False),
        (fault(RunLost), "r", True),
    ],
)
def test_requests_that_may_have_made_a_run(failure: ServiceFault, run_id: str | None, repeated: bool) -> None:
    """A retry counts as repeated if the service may have made a run that we do not know, or has lost the run."""
    made = attempts()
    made.set_ids(None, run_id, with_reply=False)
    made.retry(failure)
    assert made.is_repeat == repeated
    made.retry(fault(RateLimited, run_ended=True))
    assert not made.is_repeat


def test_a_lost_run_is_asked_for_by_its_key() -> None:
    """A run that the service does not know is not followed again, and its key is kept."""
    made = attempts(LAST)
    made.fail(fault(RunLost))
    assert not made.retry(fault(RunLost))
    assert made.current == Attempt(6, 2, LAST.key, "t", None)


def test_a_run_that_fails_is_replaced() -> None:
    """After the end of its run the row gets another run, under another key."""
    made = attempts()
    failure = fault(run_ended=True)
    made.fail(failure)
    assert made.current.run_ended
    assert made.retry(failure)
    assert made.current == Attempt(2, 2, "batch_1-7-2")


@pytest.mark.parametrize(("run_id", "ended"), [(None, True), ("r", False)])
def test_a_refusal_uses_up_the_key(run_id: str | None, ended: bool) -> None:
    """A refused request is never sent again under its key; a run that exists is not ended by a refusal."""
    made = attempts()
    made.set_ids(None, run_id, with_reply=False)
    failure = fault(PermanentFault)
    made.fail(failure)
    assert (failure.run_ended, made.current.run_ended) == (ended, ended)


def test_attempts_are_counted_for_each_run() -> None:
    """The policy's maximum counts the row's own faults at one run: the next run begins at zero."""
    made = attempts()
    assert isinstance(made.decide(fault(), 0.0, ill=False), RetryAfter)
    assert isinstance(made.decide(fault(RateLimited), 0.0, ill=True), RetryAfter)
    assert made.decide(fault(), 0.0, ill=False) == RetryAfter(1.0, shared=False)
    made.next_run()
    assert made.current == Attempt(2, 2, "batch_1-7-2")
    assert made.decide(fault(), 0.0, ill=False) == RetryAfter(0.5, shared=False)
    made.decide(fault(), 0.0, ill=False)
    assert made.decide(fault(), 0.0, ill=False) == GiveUp()


def test_a_run_that_ended_well_is_left() -> None:
    """After its end a run is neither followed nor cancelled, and its thread stays known."""
    made = attempts(LAST)
    made.leave_run()
    assert made.current == Attempt(5, 2, LAST.key, "t", None)
