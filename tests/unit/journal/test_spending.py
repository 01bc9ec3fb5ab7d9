"""What a budget counts besides known costs: the money of requests whose answer was not seen, or has no usage."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from batchrun.errors import (
    ConnectionLost,
    PermanentFault,
    RateLimited,
    RunLost,
    ServerFault,
    ServiceFault,
    Silence,
)
from batchrun.journal import Journal
from batchrun.records import Attempt, Completed, Failed, Reply, RunEnd
from batchrun.token_usage import Usage
from tests.support.rows import prompt

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = prompt(1).row_key
USAGE = Usage(1, 2, 3)


def begin(journal: Journal, number: int = 1, run_id: str | None = None, reserved_usd: float | None = 1.0) -> None:
    journal.begin_attempt(prompt(1), Attempt(number, 1, "key", "thread", run_id), NOW, reserved_usd=reserved_usd)


def fail(journal: Journal, fault: ServiceFault, number: int = 1) -> None:
    journal.record_fault(KEY, number, fault)


def complete(journal: Journal, cost_usd: float | None, attempts: int = 1) -> None:
    usage = Usage(1, 2, 3) if cost_usd is not None else Usage()
    journal.finish(Completed(KEY, "a", "t", "r", "m", usage, attempts, 0.1, NOW, cost_usd), "fingerprint")


def end_failed(journal: Journal, run_id: str | None, attempts: int = 1) -> None:
    failed = Failed(KEY, "server_error", "failed", attempts, 0.1, NOW, run_id=run_id)
    journal.finish(failed, "fingerprint")


def end_turn(journal: Journal, usage: Usage = USAGE) -> None:
    reply = Reply("completed", "a", model="m", usage=usage)
    journal.run_ended(KEY, "fingerprint", RunEnd(1, 1, 1, "q", reply, "t", "r"))


def answered(journal: Journal) -> None:
    begin(journal)
    complete(journal, 0.25)


def killed(journal: Journal) -> None:
    begin(journal)


def killed_after_another_lost(journal: Journal) -> None:
    begin(journal)
    fail(journal, ConnectionLost("lost", error_type="connection_error"))
    begin(journal, 2, reserved_usd=1.5)


def answered_after_lost(journal: Journal) -> None:
    begin(journal)
    fail(journal, Silence("silent", error_type="timeout"))
    begin(journal, 2)
    complete(journal, 0.25, attempts=2)


def answered_after_a_crash(journal: Journal) -> None:
    begin(journal)
    begin(journal, 2)
    complete(journal, 0.25, attempts=2)


def answered_again(journal: Journal) -> None:
    answered(journal)
    journal.look_back()
    begin(journal, 2)
    complete(journal, 0.5, attempts=2)


def answered_after_refused(journal: Journal) -> None:
    begin(journal)
    fail(journal, RateLimited("wait", error_type="rate_limit", status_code=429))
    begin(journal, 2)
    complete(journal, 0.25, attempts=2)


def refused(journal: Journal) -> None:
    begin(journal)
    fail(journal, PermanentFault("no", error_type="bad_request", status_code=400))
    end_failed(journal, None)


def failed_run_without_usage(journal: Journal) -> None:
    begin(journal, run_id="run_1")
    fail(journal, PermanentFault("no", error_type="server_error", run_ended=True))
    end_failed(journal, "run_1")


def failed_unseen(journal: Journal) -> None:
    begin(journal)
    fail(journal, Silence("silent", error_type="timeout"))
    end_failed(journal, None)


def answer_without_usage(journal: Journal) -> None:
    begin(journal)
    complete(journal, None)


def with_a_run(journal: Journal) -> None:
    begin(journal, run_id="run_1")


def after_a_turn(journal: Journal) -> None:
    begin(journal)
    end_turn(journal)


def killed_in_the_second_turn(journal: Journal) -> None:
    after_a_turn(journal)
    begin(journal, 2)


def lost_in_the_second_turn(journal: Journal) -> None:
    killed_in_the_second_turn(journal)
    fail(journal, Silence("silent", error_type="timeout"), 2)


def refused_in_the_second_turn(journal: Journal) -> None:
    killed_in_the_second_turn(journal)
    fail(journal, RateLimited("wait", error_type="rate_limit", status_code=429), 2)


def waits_after_refused(journal: Journal) -> None:
    begin(journal)
    fail(journal, RateLimited("wait", error_type="rate_limit", status_code=429))


def at_the_batch_api(journal: Journal) -> None:
    begin(journal, run_id="row1-turn1-attempt1-7")


def answered_after_a_lost_run(journal: Journal) -> None:
    begin(journal, run_id="run_1")
    fail(journal, RunLost("gone", error_type="run_lost", run_ended=True))
    begin(journal, 2)
    complete(journal, 0.25, attempts=2)


def answered_after_a_failed_run(journal: Journal) -> None:
    begin(journal, run_id="run_1")
    fail(journal, ServerFault("failed", error_type="server_error", run_ended=True))
    begin(journal, 2)
    complete(journal, 0.25, attempts=2)


def answered_after_a_failed_run_with_usage(journal: Journal) -> None:
    begin(journal, run_id="run_1")
    fail(journal, ServerFault("failed", error_type="server_error", run_ended=True, usage=Usage(1, 2, 3)))
    begin(journal, 2)
    complete(journal, 0.25, attempts=2)


def answered_after_a_rate_limited_run(journal: Journal) -> None:
    begin(journal, run_id="run_1")
    fail(journal, RateLimited("wait", error_type="rate_limit_exceeded", run_ended=True))
    begin(journal, 2)
    complete(journal, 0.25, attempts=2)


def waits_after_a_failed_run(journal: Journal) -> None:
    begin(journal, run_id="run_1")
    fail(journal, ServerFault("failed", error_type="server_error", run_ended=True))


def second_turn_cancelled(journal: Journal) -> None:
    after_a_turn(journal)
    begin(journal, 2, run_id="run_2")
    fail(journal, Silence("late", error_type="row_timeout", run_ended=True), 2)
    journal.finish(Failed(KEY, "row_timeout", "late", 2, 0.1, NOW, run_id="run_2", cost_usd=0.25), "fingerprint")


def second_turn_failed_with_usage(journal: Journal) -> None:
    after_a_turn(journal)
    begin(journal, 2, run_id="run_2")
    fail(journal, PermanentFault("no", error_type="server_error", run_ended=True, usage=Usage(1, 2, 3)), 2)
    journal.finish(Failed(KEY, "server_error", "no", 2, 0.1, NOW, run_id="run_2", cost_usd=0.25), "fingerprint")


def first_turn_without_usage(journal: Journal) -> None:
    begin(journal)
    end_turn(journal, Usage())
    begin(journal, 2)
    complete(journal, 0.25, attempts=2)


def with_a_run_for_an_earlier_prompt(journal: Journal) -> None:
    begin(journal, run_id="run_1")
    journal.begin_attempt(prompt(1, "other"), Attempt(2, 2, "key", "thread"), NOW, reserved_usd=0.5)
    complete(journal, 0.25, attempts=2)


def after_a_turn_of_an_earlier_prompt(journal: Journal) -> None:
    after_a_turn(journal)
    journal.begin_attempt(prompt(1, "other"), Attempt(2, 2, "key", "thread"), NOW, reserved_usd=0.5)
    complete(journal, 0.25, attempts=2)


def answered_for_both_prompts(journal: Journal) -> None:
    begin(journal, run_id="run_1")
    journal.finish(Completed(KEY, "a", "t", "run_1", "m", Usage(1, 2, 3), 1, 0.1, NOW, 0.2), prompt(1).fingerprint)
    journal.look_back()
    journal.begin_attempt(prompt(1, "other"), Attempt(2, 2, "key", "thread"), NOW, reserved_usd=0.5)
    complete(journal, 0.25, attempts=2)


def without_a_budget(journal: Journal) -> None:
    begin(journal, reserved_usd=None)


@pytest.mark.parametrize(
    ("story", "unseen_usd", "in_flight_usd"),
    [
        (answered, 0.0, {}),
        (killed, 1.0, {}),
        (killed_after_another_lost, 2.5, {}),
        (answered_after_lost, 1.0, {}),
        (answered_after_a_crash, 1.0, {}),
        (answered_again, 0.0, {}),
        (answered_after_refused, 0.0, {}),
        (refused, 0.0, {}),
        (failed_run_without_usage, 1.0, {}),
        (failed_unseen, 1.0, {}),
        (answer_without_usage, 1.0, {}),
        (with_a_run, 0.0, {KEY: 1.0}),
        (after_a_turn, 0.0, {KEY: 1.0}),
        (killed_in_the_second_turn, 1.0, {}),
        (lost_in_the_second_turn, 1.0, {}),
        (refused_in_the_second_turn, 0.0, {KEY: 1.0}),
        (waits_after_refused, 0.0, {}),
        (at_the_batch_api, 0.0, {}),
        (without_a_budget, 0.0, {}),
        (answered_after_a_lost_run, 1.0, {}),
        (answered_after_a_failed_run, 1.0, {}),
        (answered_after_a_failed_run_with_usage, 0.0, {}),
        (answered_after_a_rate_limited_run, 0.0, {}),
        (waits_after_a_failed_run, 1.0, {}),
        (second_turn_cancelled, 1.0, {}),
        (second_turn_failed_with_usage, 0.0, {}),
        (first_turn_without_usage, 1.0, {}),
        (with_a_run_for_an_earlier_prompt, 1.0, {}),
        (after_a_turn_of_an_earlier_prompt, 1.0, {}),
        (answered_for_both_prompts, 0.0, {}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_a_row_may_have_cost(
    journal: Journal, story: Callable[[Journal], None], unseen_usd: float, in_flight_usd: dict[str, float]
) -> None:
    """Only what nobody knows counts, each request once; a row that is asked about alone counts the same."""
    story(journal)
    assert (journal.spending.unseen_usd(), journal.spending.in_flight_usd()) == (unseen_usd, in_flight_usd)
    both_usd = unseen_usd + sum(in_flight_usd.values())
    assert journal.spending.unknown_usd() == journal.spending.unknown_usd([KEY]) == both_usd
    assert journal.spending.unknown_usd(["another"]) == journal.spending.unknown_usd([]) == 0.0
