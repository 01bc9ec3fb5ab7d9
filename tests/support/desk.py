"""A desk of the Batch API with its journal and wire, and passes over rows as the engine makes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from batchrun.engine.limits import Limits
from batchrun.engine.service import Reply
from batchrun.errors import Deferred, PermanentFault, ServiceFault
from batchrun.journal import Journal
from batchrun.journal.service_batches import ServiceBatch
from batchrun.records import Attempt
from batchrun.services.batch_api.deferred import DeferredService
from batchrun.services.batch_api.desk import Desk
from batchrun.services.batch_api.watching import BatchNews, Pace
from batchrun.services.chat import ChatService, ChatSettings
from batchrun.services.client import Endpoint
from batchrun.services.responses import ResponseSettings, ResponsesService
from batchrun.services.wire import Wire
from tests.support.rows import NOON, exchange, prompt

__all__ = ["HASTE", "KEY", "PLACE", "Office", "named", "office", "texts"]

KEY = "sk-secret-0123456789"
PLACE = "http://127.0.0.1/v1"
HASTE = Pace(first_s=0.001, max_poll_s=0.002, max_wait_s=0.002, look_again_s=0.001, settle_s=1.0, unknown_s=0.0)
"""Waits of a test over a real socket."""


@dataclass(slots=True)
class Office:
    """The parts of a batch that uses the Batch API.

    Mutable state: `news`, `attempts` (the last of each row), and what its parts have.
    """

    journal: Journal
    wire: Wire
    desk: Desk
    service: DeferredService
    news: list[BatchNews] = field(default_factory=list)
    attempts: dict[int, Attempt] = field(default_factory=dict)

    async def ask(self, rows: Iterable[int]) -> dict[int, Reply | ServiceFault]:
        """Make a pass over rows; return the replies and faults of those that did not have to wait."""
        found: dict[int, Reply | ServiceFault] = {}
        for row in rows:
            last = self._last(row)
            if last is None or last.run_ended:
                number = 1 if last is None else last.number + 1
                last = self.attempts[row] = Attempt(number, number, f"key-{row}-{number}")
                self.journal.begin_attempt(prompt(row), last, NOON)
            try:
                found[row] = await self._answer(row, last)
            except Deferred:
                pass
            except ServiceFault as fault:
                self.journal.record_fault(str(row), last.number, fault)
                self.attempts[row] = replace(self.attempts[row], run_ended=fault.run_ended)
                found[row] = fault
        return found

    def _last(self, row: int) -> Attempt | None:
        if row not in self.attempts:
            history = self.journal.history(str(row))
            if history is None or history.last is None:
                return None
            self.attempts[row] = history.last
        return self.attempts[row]

    async def _answer(self, row: int, attempt: Attempt) -> Reply:
        def on_ids(thread_id: str | None, run_id: str | None, *, with_reply: bool = False) -> None:
            self.attempts[row] = replace(attempt, thread_id=thread_id, run_id=run_id)
            self.journal.set_ids(str(row), attempt.number, thread_id, run_id)

        asked = exchange(row, f"row {row}", row_index=row)
        if attempt.run_id is None:
            return await self.service.answer(asked, attempt, on_ids)
        return await self.service.follow(asked, attempt, on_ids)

    async def run(self, rows: Iterable[int]) -> dict[int, Reply | ServiceFault]:
        """Make passes until no row waits; return how each row ended last."""
        found: dict[int, Reply | ServiceFault] = {}
        left = list(rows)
        await self.desk.submit()
        while left:
            found |= await self.ask(left)
            self.desk.tidy()
            left = [row for row in left if not isinstance(found.get(row), Reply | PermanentFault)]
            await self.desk.submit()
            if self.desk.open():
                await self.desk.watch()
        return found

    def batches(self) -> list[ServiceBatch]:
        return self.journal.service_batches.all()

    def texts(self, kind: str) -> list[str]:
        """Return the texts of the news of a kind."""
        return [each.text for each in self.news if each.kind == kind]


@asynccontextmanager
async def office(
    url: str,
    folder: Path,
    *,
    api: Literal["chat", "responses"] = "chat",
    pace: Pace = HASTE,
    clock: Callable[[], datetime] = lambda: NOON,
    azure: bool = False,
    asks: bool = True,
    key: str = KEY,
    **options: Any,
) -> AsyncIterator[Office]:
    """Open the journal in `folder` with a desk for the service at `url`, as a new process does."""
    endpoint = Endpoint(url, key, azure=azure, api_version="2025-04-01-preview" if azure else None)
    wire = Wire(endpoint, Limits(), silence_timeout_s=5.0)
    news: list[BatchNews] = []
    try:
        with Journal(folder / "out.csv.journal") as journal:
            if not journal.read_manifest():
                journal.write_manifest({"batch_id": "batch_0123456789abcdef"})
            desk = Desk(
                wire,
                journal.service_batches,
                journal_path=journal.path,
                journal_id=journal.read_manifest()["batch_id"],
                place=PLACE,
                clock=clock,
                pace=pace,
                report=news.append,
                **options,
            )
            if api == "chat":
                ordinary: Any = ChatService(wire, ChatSettings(model="m-1", instructions=None))
            else:
                ordinary = ResponsesService(wire, ResponseSettings(model="m-1", instructions=None, metadata={}))
            service = DeferredService(ordinary, wire, journal.service_batches, desk.due, place=PLACE, asks=asks)
            yield Office(journal, wire, desk, service, news)
    finally:
        await wire.aclose()


def texts(found: Mapping[int, Reply | ServiceFault]) -> dict[int, str]:
    """Return row → its answer, or the error type of its fault."""
    return {row: each.response if isinstance(each, Reply) else each.error_type for row, each in found.items()}


def named(rows: range, attempt: int = 1, first: int = 1) -> dict[int, str]:
    """Return the answers that the service gives to rows whose lines are numbered from `first`."""
    return {row: f"to row{row}-turn1-attempt{attempt}-{number}" for number, row in enumerate(rows, first)}
