"""Passes of the engine over rows whose requests are deferred, with a service of the tests' own that defers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from batchrun.engine import (
    Budget,
    DialogueSettings,
    Engine,
    FixedPurse,
    RetryPolicy,
    RowTask,
    RowWork,
    SkippedRow,
    Stop,
)
from batchrun.engine.pass_limits import PassLimits
from batchrun.errors import BatchRefused, PermanentFault, RateLimited, Refused, TransientFault
from batchrun.journal import Journal
from batchrun.records import Completed, Failed, Reply, ToolCall, ToolOutput
from batchrun.token_usage import Usage
from tests.support.deferring_service import DeferringService, due_task
from tests.support.engine_bench import asks, columns, engine_for
from tests.support.rows import completed, prompt
from tests.support.scripted_service import answered

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


def passes(journal: Journal, service: DeferringService, **options: Any) -> Engine:
    return engine_for(service, journal, PassLimits(), defers=True, **options)


def fault(kind: type[TransientFault] = RateLimited, error_type: str = "rate_limit_exceeded") -> TransientFault:
    return kind("the line was not answered", error_type=error_type, run_ended=True)


def due(journal: Journal, rows: Iterable[int], **fields: Any) -> list[RowWork]:
    return [due_task(journal, prompt(row, f"q{row}"), **fields) for row in rows]


async def test_a_deferred_row_ends_its_task_without_an_outcome(journal: Journal) -> None:
    """A pass over rows whose replies come later returns at once: the rows are in flight, and hold no slot."""
    service = DeferringService()
    engine = passes(journal, service)
    await engine.run([*asks(3), SkippedRow.DEFERRED])
    statistics = engine.statistics()
    assert (statistics.in_flight, statistics.deferred, statistics.limits.in_use) == (4, 4, 0)
    assert journal.counts().in_flight == 3
    assert columns(journal, 0, "number", "run_id", "fault_type") == [(1, "line-0-1-0", None)]
    assert engine.stop is None


async def test_the_next_pass_continues_the_same_attempt(journal: Journal) -> None:
    """An answer that a later pass finds belongs to the attempt that asked for it, so one request is one attempt."""
    service = DeferringService()
    engine = passes(journal, service)
    await engine.run(asks(2))
    service.ends["line-1-1-0"] = answered("late")
    await engine.run(due(journal, [1], waited_s=7_200.0))
    found = journal.outcome("1")
    assert found is not None
    assert isinstance(found[0], Completed)
    assert (found[0].response, found[0].attempts, found[0].run_id) == ("late", 1, "resp-line-1-1-0")
    assert found[0].duration_s == 7_200.0
    assert columns(journal, 1, "number", "run_id") == [(1, "resp-line-1-1-0")]
    assert (engine.statistics().deferred, engine.statistics().completed, service.prepared) == (1, 1, 1)


@pytest.mark.parametrize("recorded", [False, True])
async def test_rows_that_an_earlier_run_deferred_are_counted_once(journal: Journal, recorded: bool) -> None:
    """The first pass of another process counts those whose reply is not there, and no others, as deferred."""
    service = DeferringService()
    await passes(journal, service).run(asks(3))
    service.ends["line-1-1-0"] = answered("late")
    engine = passes(journal, service, dialogue_settings=DialogueSettings(recorded=recorded))
    await engine.run([SkippedRow.DEFERRED, *due(journal, [1, 2])])
    statistics = engine.statistics()
    assert (statistics.completed, statistics.deferred, statistics.in_flight) == (1, 2, 2)


async def test_what_is_not_plain_about_a_reply_is_left_to_its_row(journal: Journal) -> None:
    """Among rows whose answers are taken together, a row with a fault makes its next attempt, one without a reply stays
    deferred, one whose answer is cut off is incomplete, and one with an earlier outcome keeps that as superseded."""
    service = DeferringService()
    engine = passes(journal, service)
    journal.finish(completed(4, "earlier"), prompt(4, "q4").fingerprint)
    await engine.run([*asks(5)])
    journal.look_back()
    service.ends = {f"line-{row}-1-0": answered(f"a{row}") for row in (0, 4)}
    service.ends["line-1-1-0"] = fault()
    service.ends["line-3-1-0"] = replace(answered("half"), status="incomplete", reason="max_output_tokens")
    await engine.run(due(journal, range(5)))
    assert columns(journal, 1, "number", "run_id", "fault_type") == [
        (1, "line-1-1-0", "rate_limit_exceeded"),
        (2, "line-1-2-0", None),
    ]
    outcomes = [journal.outcome(str(row)) for row in range(5)]
    assert [found and (found[0].status, found[0].response) for found in outcomes] == [
        ("completed", "a0"), None, None, ("incomplete", "half"), ("completed", "a4"),
    ]  # fmt: skip
    with closing(sqlite3.connect(journal.path)) as db:
        assert db.execute("SELECT response FROM superseded").fetchall() == [("earlier",)]
    statistics = engine.statistics()
    assert (statistics.completed, statistics.incomplete, statistics.deferred) == (2, 1, 2)


async def test_the_next_turn_is_a_request_of_the_next_wave(journal: Journal) -> None:
    """An answer that needs a correction leads to another request, which is deferred too."""
    service = DeferringService()
    settings = DialogueSettings(recorded=True, check=lambda text: None if text == "good" else "bad form")
    engine = passes(journal, service, dialogue_settings=settings)
    await engine.run(asks(1))
    service.ends["line-0-1-0"] = answered("bad")
    await engine.run(due(journal, [0]))
    assert list(service.lines) == ["line-0-1-0", "line-0-2-0"]
    assert "bad form" in service.lines["line-0-2-0"][0].turn.text
    service.ends["line-0-2-0"] = answered("good")
    await engine.run(due(journal, [0]))
    found = journal.outcome("0")
    assert found is not None
    assert (found[0].response, found[0].attempts) == ("good", 2)


async def test_function_outputs_are_a_request_of_the_next_wave(journal: Journal) -> None:
    """A reply with function calls is answered once, and its outputs go out as a request of the same attempt."""
    service = DeferringService()
    called: list[str] = []

    async def call(calls: Sequence[ToolCall]) -> tuple[ToolOutput, ...]:
        called.extend(each.name for each in calls)
        return tuple(ToolOutput(each.call_id, "42") for each in calls)

    engine = passes(journal, service, dialogue_settings=DialogueSettings(recorded=True, call_tools=call))
    await engine.run(asks(1))
    wants = Reply("requires_action", "", Usage(1, 1, 2), "m", calls=(ToolCall("c1", "lookup", "{}"),))
    service.ends["line-0-1-0"] = wants
    await engine.run(due(journal, [0]))
    assert list(service.lines) == ["line-0-1-0", "line-0-1-1"]
    service.ends["line-0-1-1"] = answered("found")
    await engine.run(due(journal, [0]))
    found = journal.outcome("0")
    assert found is not None
    assert (found[0].response, found[0].attempts, called) == ("found", 1, ["lookup"])


async def test_a_line_that_was_never_tried_counts_as_no_attempt(journal: Journal) -> None:
    """Expired lines are requested again however often they expire; a rate limit counts for --max-attempts."""
    service = DeferringService()
    engine = passes(journal, service, policy=RetryPolicy(max_attempts=2))
    await engine.run(asks(2))
    service.ends["line-0-1-0"] = fault(error_type="batch_expired")
    service.ends["line-1-1-0"] = fault()
    await engine.run(due(journal, [0, 1], counted=1))
    assert journal.outcome("0") is None
    assert columns(journal, 0, "number", "fault_type") == [(1, "batch_expired"), (2, None)]
    failed = journal.outcome("1")
    assert failed is not None
    assert isinstance(failed[0], Failed)
    assert failed[0].error_type == "rate_limit_exceeded"


async def test_rows_of_a_pass_wait_for_nothing(journal: Journal) -> None:
    """Old rate limits hold no row back: the pass makes the next requests in the same moment."""
    service = DeferringService()
    engine = passes(journal, service)
    await engine.run(asks(150))
    service.ends |= {f"line-{row}-1-0": fault() for row in range(150)}
    await engine.run(due(journal, range(150)))
    assert len(service.lines) == 300
    assert engine.statistics().limits.cool_down_s == 0
    assert engine.stop is None


async def test_a_stop_ends_a_pass_among_its_rows(journal: Journal) -> None:
    """Ctrl-C in a pass over many rows asks at most the hundred at hand; the others are not read."""
    engine = passes(journal, service := DeferringService())

    def work() -> Iterator[RowWork]:
        for number, task in enumerate(asks(1_000)):
            if number == 150:
                engine.request_stop(Stop("interrupted", 130), 60.0)
            yield task

    await engine.run(work())
    assert len(service.lines) == engine.statistics().deferred == journal.counts().in_flight == 200


async def test_a_refusal_stops_after_the_replies_of_its_pass(journal: Journal) -> None:
    """A line that refuses all rows stops the batch only when every other reply of the pass is in the journal."""
    service = DeferringService()
    engine = passes(journal, service)
    await engine.run(asks(3))
    service.ends["line-0-1-0"] = BatchRefused("no credit", error_type="insufficient_quota", run_ended=True)
    service.ends |= {f"line-{row}-1-0": answered() for row in (1, 2)}
    await engine.run(due(journal, range(3)))
    assert engine.stop is None
    assert engine.stop_after_pass is not None
    assert (engine.stop_after_pass.exit_code, journal.counts().completed) == (5, 2)


async def test_refused_rows_fail_alone(journal: Journal) -> None:
    """A line with a 403 fails its row, even if it is the first: the other lines of its batch were tried as well."""
    service = DeferringService()
    engine = passes(journal, service)
    await engine.run(asks(2))
    service.ends["line-0-1-0"] = Refused("flagged", error_type="http_403", run_ended=True)
    service.ends["line-1-1-0"] = answered()
    await engine.run(due(journal, range(2)))
    assert (journal.counts().failed, journal.counts().completed, engine.stop) == (1, 1, None)


async def test_many_failed_rows_stop_after_the_pass(journal: Journal) -> None:
    """More failed rows than answers are recorded all, and stop the batch only after the pass."""
    service = DeferringService()
    engine = passes(journal, service)
    await engine.run(asks(30))
    service.ends |= {f"line-{row}-1-0": PermanentFault("no", error_type="http_400") for row in range(30)}
    await engine.run(due(journal, range(30)))
    assert journal.counts().failed == 30
    assert engine.stop_after_pass is not None
    assert engine.stop_after_pass.exit_code == 3


# -- the budget -----------------------------------------------------------------------------------------------


def budget(limit_usd: float) -> Budget:
    return Budget(
        FixedPurse(limit_usd), 0.0, lambda usage: (usage.total_tokens or 0) / 1_000, max_completion_tokens=999
    )


async def test_money_stays_reserved_for_deferred_rows(journal: Journal) -> None:
    """The budget counts every deferred row, over passes; rows that it leaves are sent when others have ended."""
    service, money = DeferringService(), budget(2.2)
    engine = passes(journal, service, budget=money, price=lambda model, usage: 0.1)
    await engine.run(asks(4))
    assert (list(service.lines), engine.reservations.rows_left, engine.stop) == (
        ["line-0-1-0", "line-1-1-0"],
        True,
        None,
    )
    assert money.reserved_usd == pytest.approx(2.0)
    service.ends["line-0-1-0"] = answered()
    await engine.run(due(journal, [0]))
    assert [money.spent_usd, money.reserved_usd] == pytest.approx([0.1, 1.0])
    await engine.run([RowTask(prompt(row, f"q{row}")) for row in (2, 3)])
    assert "line-2-1-0" in service.lines
    assert "line-3-1-0" not in service.lines


async def test_money_of_earlier_deferred_rows_is_reserved_first(journal: Journal) -> None:
    """A resumed batch reserves money for the rows that are still deferred before it sends another."""
    service, money = DeferringService(), budget(1.5)
    engine = passes(journal, service, budget=money)
    engine.reservations.hold("9", 2)
    await engine.run([*asks(1), SkippedRow.DEFERRED])
    assert (service.lines, engine.reservations.rows_left, engine.stop) == ({}, True, None)


async def test_an_empty_budget_stops_a_pass(journal: Journal) -> None:
    """If no row is deferred and no money is left, the batch stops with the budget's exit code."""
    engine = passes(journal, DeferringService(), budget=budget(0.5))
    await engine.run(asks(1))
    assert engine.stop is not None
    assert engine.stop.exit_code == 4


async def test_a_refusal_releases_its_money(journal: Journal) -> None:
    """A row that stops the batch does not keep the money for which others wait, and no further row is asked."""
    service, money = DeferringService(), budget(1.5)
    engine = passes(journal, service, budget=money)
    await engine.run(asks(1))
    service.ends["line-0-1-0"] = BatchRefused("no credit", error_type="insufficient_quota", run_ended=True)
    await engine.run([*due(journal, [0]), *asks(3)[1:]])
    assert engine.stop_after_pass is not None
    assert list(service.lines) == ["line-0-1-0"]
    assert money.reserved_usd == pytest.approx(0.0, abs=1e-9)
