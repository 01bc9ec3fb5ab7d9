"""The engine over a scripted service and a real journal, in virtual time: admission, stops and preparation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from batchrun.engine import RowTask, RowWork, SkippedRow, Stop
from batchrun.engine.pacer import Pacers
from batchrun.engine.service import OnIds, Reply
from batchrun.errors import (
    BatchRefused,
    ConnectionLost,
    OutputError,
    PermanentFault,
    RateLimited,
    ServiceFault,
)
from batchrun.journal import Journal
from batchrun.records import Attempt, Completed, Exchange, Failed
from tests.support.engine_bench import asks, bench, transient
from tests.support.rows import failed, prompt
from tests.support.scripted_service import Move, ScriptedService

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


# -- admission ------------------------------------------------------------------------------------------------


async def test_rows_are_sent_in_order_within_the_slots(journal: Journal) -> None:
    """Rows go out in the table's order, never more at once than slots, and every one has its outcome."""
    b = bench(journal, ScriptedService(), limits={"concurrency": 7})
    await b.engine.run(asks(100))
    assert [asked.row_key for asked in b.service.asked] == [str(n) for n in range(100)]
    assert b.service.most_in_flight == 7
    assert journal.counts().completed == 100
    assert b.engine.statistics().in_flight == 0


async def test_work_is_taken_as_slots_come_free(journal: Journal) -> None:
    """The table is read no further than the slots go, so that memory does not grow with it."""
    taken = []

    def table() -> Iterator[RowWork]:
        for row in range(50):
            taken.append(row)
            yield RowTask(prompt(row))

    b = bench(journal, ScriptedService(otherwise=Move(end=None)), limits={"concurrency": 5})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(b.engine.run, table())
        await anyio.wait_all_tasks_blocked()
        assert taken == list(range(6))
        tasks.cancel_scope.cancel()


async def test_rows_that_need_no_asking(journal: Journal) -> None:
    """A row that failed before it could be sent is recorded; a finished one is only counted, and so is a duplicate."""
    finished = SkippedRow.FINISHED_BEFORE
    b = bench(journal, ScriptedService())
    cannot_be_sent = failed(1, error_type="empty_prompt", attempts=0)
    await b.engine.run([finished, cannot_be_sent, RowTask(prompt(2)), finished, SkippedRow.DUPLICATE])
    statistics = b.engine.statistics()
    assert (statistics.finished_before, statistics.failed, statistics.completed) == (2, 1, 1)
    assert statistics.asked_alike == 1
    assert b.outcome(1).attempts == 0
    assert [asked.row_key for asked in b.service.asked] == ["2"]
    assert b.engine.stop is None


async def test_requests_keep_to_the_allowance(journal: Journal) -> None:
    """At --rpm 60 a row is sent every second, and a little later for its way to the service."""
    b = bench(journal, ScriptedService(), limits={"rates": Pacers(requests_per_minute=60)})
    await b.engine.run(asks(100))
    assert [asked.at_s for asked in b.service.asked] == pytest.approx([n / 0.997 for n in range(100)], abs=1e-3)


# -- stops -----------------------------------------------------------------------------------------------------


async def test_a_refusal_stops_the_batch(journal: Journal) -> None:
    """A refused key stops the admission at once with its line and exit code 5; rows in flight may finish."""
    refusal = BatchRefused("the service refused the key: bad", error_type="authentication_error", status_code=401)
    service = ScriptedService({1: [Move(refusal, ids=None, after_s=0.5)]}, otherwise=Move(after_s=5.0))
    b = bench(journal, service, limits={"concurrency": 3})
    await b.engine.run(asks(50))
    assert b.engine.stop == Stop("the service refused the key: bad", 5)
    assert [asked.row_key for asked in service.asked] == ["0", "1", "2"]
    assert journal.counts().completed == 2


async def test_a_refusal_is_asked_again_without_being_counted(journal: Journal) -> None:
    """A row whose request was refused was never begun: the next run sends it, and nothing counts as repeated."""
    refusal = BatchRefused("no", error_type="authentication_error", status_code=401)
    await bench(journal, ScriptedService({0: [Move(refusal, ids=None)]})).engine.run(asks(1))
    counts = journal.counts()
    assert (counts.in_flight, counts.failed) == (0, 0)
    assert journal.cells("0", "fp-q0")["status"] == "pending"


@pytest.mark.parametrize(
    ("failing", "rows", "stops"), [(10, 20, False), (11, 20, True), (19, 19, False), (20, 20, True)]
)
async def test_more_than_half_failing_stops(journal: Journal, failing: int, rows: int, stops: bool) -> None:
    """With 20 rows ended, eleven failures stop the batch and ten do not; nineteen failures of 19 do not yet."""
    bad = PermanentFault("no", error_type="bad")
    # The failures come last, so that the check is made with all rows in.
    moves = {row: [Move(bad, ids=None)] for row in range(rows - failing, rows)}
    b = bench(journal, ScriptedService(moves), limits={"concurrency": 1})
    await b.engine.run(asks(rows))
    assert (b.engine.stop is not None) is stops
    if b.engine.stop is not None:
        assert b.engine.stop.exit_code == 3
        assert "--keep-going" in b.engine.stop.reason
        assert "bad: no" in b.engine.stop.reason


async def test_keep_going(journal: Journal) -> None:
    """--keep-going runs every row, however many fail."""
    service = ScriptedService(otherwise=Move(PermanentFault("no", error_type="bad"), ids=None))
    b = bench(journal, service, keep_going=True)
    await b.engine.run(asks(60))
    assert b.engine.stop is None
    assert journal.counts().failed == 60


async def test_empty_prompts_are_not_the_services_failures(journal: Journal) -> None:
    """Rows that cannot be sent do not stop a batch whose service works."""
    empty: Iterable[RowWork] = [failed(row, error_type="empty_prompt", attempts=0) for row in range(40)]
    b = bench(journal, ScriptedService())
    await b.engine.run([*empty, RowTask(prompt(40))])
    assert b.engine.stop is None
    assert journal.counts().completed == 1


async def test_a_stop_lets_rows_finish_within_the_grace(journal: Journal) -> None:
    """After a stop nothing new is sent; what ends within the grace is recorded, the rest stays in flight."""
    service = ScriptedService({0: [Move(after_s=5.0)], 1: [Move(after_s=50.0, ids=("t", "r"))]})
    b = bench(journal, service, limits={"concurrency": 2})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(b.engine.run, asks(10))
        await anyio.sleep(1)
        b.engine.request_stop(Stop("interrupted", 130), 10.0)
        b.engine.request_stop(Stop("another", 1), 20.0)
    assert anyio.current_time() == pytest.approx(11.0, abs=1e-2)
    assert b.engine.stop == Stop("interrupted", 130)
    assert len(service.asked) == 2
    counts = journal.counts()
    assert (counts.completed, counts.in_flight) == (1, 1)
    history = journal.history("1")
    assert history is None or (history.last is not None and history.last.run_id == "r")


async def test_a_stop_ends_waits_between_tries(journal: Journal) -> None:
    """A row that waits for its next attempt ends at once, and is left for the next run."""
    moves = [Move(transient(RateLimited, retry_after_s=500.0), ids=None, after_s=0.0)]
    b = bench(journal, ScriptedService({0: moves}))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(b.engine.run, asks(5))
        await anyio.sleep(1)
        b.engine.request_stop(Stop("interrupted", 130), 30.0)
    assert anyio.current_time() < 10
    assert journal.outcome("0") is None


async def test_stopped_while_nothing_can_be_admitted(journal: Journal) -> None:
    """A stop takes effect even while the admission waits for a limit."""
    b = bench(journal, ScriptedService(), limits={"rates": Pacers(requests_per_minute=0.001)})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(b.engine.run, asks(5))
        await anyio.sleep(10)
        b.engine.request_stop(Stop("interrupted", 130), 30.0)
    assert anyio.current_time() == pytest.approx(10.0, abs=1e-2)
    assert journal.counts().completed == 1


async def test_a_journal_that_cannot_be_written_ends_the_batch(tmp_path: Path) -> None:
    """No more rows run once outcomes cannot be written: the error is raised bare, and names the file."""
    with Journal(tmp_path / "j") as journal:
        b = bench(journal, ScriptedService(otherwise=Move(after_s=1.0)), limits={"concurrency": 2})
        journal._db.write("PRAGMA query_only=ON")  # the real refusal of SQLite to write
        with pytest.raises(OutputError, match="cannot be written"):
            await b.engine.run(asks(10))
        assert len(b.service.asked) <= 2


class Broken(ScriptedService):
    """Has a bug that some rows meet."""

    def __init__(self, rows: Iterable[int], *, lines: int = 1) -> None:
        """
        Args:
            lines: of code that the bug is at, one after the other.
        """
        super().__init__()
        self._rows = {str(row) for row in rows}
        self._raisers = [eval(f"lambda: {'(' + chr(10) * number}1 / 0{')'}") for number in range(lines)]

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        if exchange.row_key in self._rows:
            self._raisers[int(exchange.row_key) % len(self._raisers)]()
        return await super().answer(exchange, attempt, on_ids)


async def test_a_bug_costs_the_row_that_meets_it(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    """An error outside of the tree is not retried: its row fails as `internal_error`, with its traceback in the log."""
    b = bench(journal, Broken([3, 7]), scrub=lambda text: text.replace("division", "***"))
    await b.engine.run(asks(20))
    assert {each.row_key for each in b.outcomes if isinstance(each, Failed)} == {"3", "7"}
    outcome = b.outcome(3)
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, outcome.attempts) == ("internal_error", 1)
    assert "ZeroDivisionError: *** by zero" in outcome.error
    assert b.engine.stop is None
    assert "Traceback" in caplog.text
    assert "division" not in caplog.text


async def test_the_same_bug_three_times_stops_the_batch(journal: Journal) -> None:
    """The same line of code would fail every row: exit code 1, what is in flight ends, the others are pending."""
    b = bench(journal, Broken([30, 33, 36, 39, 60]), limits={"concurrency": 10})
    await b.engine.run(asks(100))
    assert b.engine.stop is not None
    assert b.engine.stop.exit_code == 1
    assert "test_engine.py" in b.engine.stop.reason or "<string>" in b.engine.stop.reason
    assert sum(isinstance(each, Completed) for each in b.outcomes) >= 30
    assert "60" not in {each.row_key for each in b.outcomes}


async def test_different_bugs_are_counted_apart(journal: Journal) -> None:
    """Five rows that fail at five places do not stop the batch."""
    b = bench(journal, Broken([30, 31, 32, 33, 34], lines=5))
    await b.engine.run(asks(100))
    assert b.engine.stop is None
    assert sum(isinstance(each, Failed) for each in b.outcomes) == 5


async def test_an_error_of_the_output_still_ends_the_batch(journal: Journal) -> None:
    """A fault of the journal concerns all rows."""

    class Full(ScriptedService):
        async def answer(self, *args: Any) -> Reply:
            raise OutputError("the disk is full")

    with pytest.raises(OutputError, match="full"):
        await bench(journal, Full()).engine.run(asks(3))


# -- before the first row ------------------------------------------------------------------------------------


async def test_prepare_is_tried_again(journal: Journal) -> None:
    """Preparation is attempted three times before the batch gives up."""
    service = ScriptedService(prepare=[transient(ConnectionLost), transient(ConnectionLost)])
    b = bench(journal, service)
    await b.engine.run(asks(1))
    assert service.prepared == 3
    assert journal.counts().completed == 1


async def test_preparing_may_take_its_time(journal: Journal) -> None:
    """Uploads of many files are not cut off: the engine sets no deadline for them."""
    b = bench(journal, ScriptedService(prepare=[3_600.0]))
    await b.engine.run(asks(1))
    assert (b.engine.stop, journal.counts().completed) == (None, 1)


@pytest.mark.parametrize(
    ("faults", "reason", "calls"),
    [
        ([transient(ConnectionLost)] * 3, "the service cannot be used: not now", 3),
        ([BatchRefused("the key is bad", error_type="x")], "the key is bad", 1),
        ([PermanentFault("an assistant needs a model", error_type="x")],
         "the service cannot be used: an assistant needs a model", 1),
    ],
)  # fmt: skip
async def test_a_service_that_cannot_be_used(
    journal: Journal, faults: list[ServiceFault | float], reason: str, calls: int
) -> None:
    """A service that refuses stops the batch before its first row, with one line and exit code 5."""
    service = ScriptedService(prepare=faults)
    b = bench(journal, service)
    await b.engine.run(asks(3))
    assert b.engine.stop == Stop(reason, 5)
    assert service.prepared == calls
    assert service.asked == []
