"""What is promised of a commit: no request before its attempt is in the file, no outcome reported before it is there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import anyio
import anyio.lowlevel
import pytest

from batchrun.engine import Limits, RowTask, Stop
from batchrun.engine.ended_rows import EndedRow, EndedRows
from batchrun.engine.service import OnIds
from batchrun.errors import OutputError, RateLimited
from batchrun.journal import Journal
from batchrun.records import Attempt, Exchange, Outcome, Reply
from tests.support.engine_bench import asks, bench, columns, engine_for
from tests.support.rows import completed, failed, prompt
from tests.support.scripted_service import Move, ScriptedService

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class File:
    """The journal's file, as another process sees it."""

    def __init__(self, journal: Journal) -> None:
        self._db = sqlite3.connect(journal.path)

    def close(self) -> None:
        self._db.close()

    def has(self, table: str, row_key: str) -> bool:
        return bool(
            self._db.execute(f"SELECT EXISTS (SELECT 1 FROM {table} WHERE row_key = ?)", (row_key,)).fetchone()[0]
        )


@pytest.fixture
def file(journal: Journal) -> Iterator[File]:
    with closing(File(journal)) as file:
        yield file


class Reading(ScriptedService):
    """Looks into the journal's file whenever it is asked. Mutable state: `begun`, whether the attempt was there."""

    def __init__(self, file: File, otherwise: Move) -> None:
        super().__init__(otherwise=otherwise)
        self._file = file
        self.begun: list[bool] = []

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        self.begun.append(self._file.has("attempts", exchange.row_key))
        return await super().answer(exchange, attempt, on_ids)


@pytest.mark.parametrize("with_reply", [False, True])
@pytest.mark.parametrize("after_s", [0.0, 1.0])
async def test_the_file_is_ahead_of_everybody(journal: Journal, file: File, after_s: float, with_reply: bool) -> None:
    """When a request arrives its attempt is in the file, and when an outcome is reported it is there too."""
    told: list[bool] = []
    service = Reading(file, Move(after_s=after_s, with_reply=with_reply))
    engine = engine_for(
        service,
        journal,
        Limits(concurrency=7),
        on_outcome=lambda outcome: told.append(file.has("outcomes", outcome.row_key)),
    )
    await engine.run([*asks(30), failed(row_key="30")])
    assert service.begun == [True] * 30
    assert told == [True] * 31
    statistics = engine.statistics()
    assert (statistics.completed, statistics.failed) == (30, 1)


class Cancelling(ScriptedService):
    """Cancels the batch just before it returns a reply."""

    def __init__(self, scope: anyio.CancelScope) -> None:
        super().__init__(otherwise=Move(with_reply=True))
        self._scope = scope

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        reply = await super().answer(exchange, attempt, on_ids)
        self._scope.cancel()
        return reply


async def test_an_outcome_of_a_cancelled_batch_is_reported(journal: Journal, file: File) -> None:
    """A row that ends in the moment in which the batch is cancelled is committed and reported."""
    told: list[str] = []
    with anyio.CancelScope() as scope:
        await engine_for(
            Cancelling(scope),
            journal,
            Limits(),
            on_outcome=lambda outcome: told.append(outcome.row_key),
        ).run(asks(1))
    assert scope.cancelled_caught
    assert file.has("outcomes", "0")
    assert told == ["0"]


async def test_nothing_is_reported_that_is_not_committed(journal: Journal, file: File) -> None:
    """If the journal cannot be written any more, the batch ends at once, and each outcome that was reported is in it."""
    told: list[Outcome] = []

    def note(outcome: Outcome) -> None:
        told.append(outcome)
        if len(told) == 3:
            pages = journal._db.one("PRAGMA page_count")[0]
            journal._db.one(f"PRAGMA max_page_count={pages}")  # SQLite then fails as on a full disk

    service = ScriptedService({0: [Move(after_s=3_600.0)]}, otherwise=Move(after_s=1.0))
    engine = engine_for(service, journal, Limits(concurrency=3), on_outcome=note)
    began_s = anyio.current_time()
    with pytest.raises(OutputError, match="disk is full"):
        await engine.run(asks(1_000))
    assert anyio.current_time() - began_s < 3_600
    assert all(file.has("outcomes", outcome.row_key) for outcome in told)
    assert engine.statistics().completed == len(told)


class Refusing(ScriptedService):
    """Refuses row 0 while the others begin: they have their turn, and are not sent yet."""

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        if exchange.row_key == "0" and attempt.number == 1:
            raise RateLimited("slow down", error_type="rate_limit_exceeded", status_code=429, retry_after_s=60.0)
        return await super().answer(exchange, attempt, on_ids)


async def test_a_row_waits_for_a_cool_down_that_began_before_its_request(journal: Journal) -> None:
    """A row that has its turn and is not sent yet returns to the line: it comes back with the others, one by one."""
    b = bench(journal, Refusing(), limits={"concurrency": 4})
    await b.engine.run(asks(4))
    sent_s = [asked.at_s for asked in b.service.asked]
    assert len(sent_s) == 4
    assert min(sent_s) >= 60
    assert len({round(each, 2) for each in sent_s}) == 4
    assert columns(journal, 1, "number") == [(1,)]


async def test_an_attempt_that_a_stop_prevents_is_withdrawn(journal: Journal) -> None:
    """An attempt that has begun and was not sent is removed: the next run of the batch counts nothing as repeated."""
    b = bench(journal, Refusing(), limits={"concurrency": 2})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(b.engine.run, asks(2))
        await anyio.sleep(10)
        b.engine.request_stop(Stop("interrupted", 130), 1.0)
    assert b.service.asked == []
    assert columns(journal, 1, "number") == []
    with Journal(journal.path) as later:
        assert later.history("1") is None
        resumed = bench(later, ScriptedService())
        await resumed.engine.run([RowTask(prompt(1))])
        assert resumed.engine.statistics().created_again == 0


async def test_an_attempt_that_a_cancellation_prevents_is_withdrawn(journal: Journal) -> None:
    """A row that is cancelled while its attempt is in the open group sends nothing, and is new to the next run."""
    b = bench(journal, ScriptedService(), limits={"concurrency": 3})
    with anyio.CancelScope() as scope:
        journal._db._connection.set_trace_callback(lambda sql: scope.cancel() if "INTO attempts" in sql else None)
        await b.engine.run(asks(3))
    journal._db._connection.set_trace_callback(None)
    assert scope.cancelled_caught
    sent = {asked.exchange.row_key for asked in b.service.asked}
    assert "0" not in sent
    with Journal(journal.path) as later:
        assert {str(row) for row in range(3) if later.history(str(row)) is not None} == sent


async def test_no_answer_waits_for_code_of_the_user(journal: Journal, file: File) -> None:
    """When the user's function is called, all outcomes of that turn are in the file: it may hold the event loop."""
    written: list[str] = []
    told: list[list[bool]] = []
    ended = EndedRows(
        journal, lambda _: told.append([file.has("outcomes", each) for each in written]), calls_users_code=True
    )

    async def end_rows() -> None:
        while len(told) < 5:
            outcome = completed(len(written))
            journal.finish(outcome, "f")
            written.append(outcome.row_key)
            ended.add(EndedRow(outcome, "service"))
            await anyio.lowlevel.checkpoint()

    with journal.grouped(lambda: 0.0):
        async with anyio.create_task_group() as beside:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(end_rows)
                tasks.start_soon(end_rows)
                beside.start_soon(ended.keep_reporting)  # last, so that rows end in the turns in which it reports
            beside.cancel_scope.cancel()
    assert max(map(len, told)) > 2
    assert all(map(all, told))
