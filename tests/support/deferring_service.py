"""A service for the engine that defers every request, and has the replies that a test gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchrun.engine import RowTask
from batchrun.engine.service import OnIds
from batchrun.errors import Deferred, ServiceFault
from batchrun.journal import Journal
from batchrun.records import Attempt, Exchange, Prompt, Reply

__all__ = ["DeferringService", "due_task"]


class DeferringService:
    """Records requests as `custom id → exchange`, and follows them to the ends that the test has put into `ends`.

    Mutable state: `lines`, the requests so far; `ends`, by custom id; `prepared`, calls of `prepare`.
    """

    def __init__(self) -> None:
        self.lines: dict[str, tuple[Exchange, Attempt]] = {}
        self.ends: dict[str, Reply | ServiceFault] = {}
        self.prepared = 0

    async def prepare(self) -> None:
        self.prepared += 1

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        custom_id = f"line-{exchange.row_key}-{attempt.number}-{exchange.round}"
        assert custom_id not in self.lines
        self.lines[custom_id] = exchange, attempt
        on_ids(None, custom_id)
        raise Deferred

    async def follow(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        assert attempt.run_id is not None
        self.lines[attempt.run_id] = exchange, attempt
        end = self.ends.get(attempt.run_id)
        if end is None:
            raise Deferred
        if isinstance(end, ServiceFault):
            raise end
        on_ids(f"thread-{exchange.row_key}", f"resp-{attempt.run_id}", with_reply=True)
        return end

    async def cancel(self, exchange: Exchange, attempt: Attempt) -> None:
        """Do nothing."""


def due_task(journal: Journal, prompt: Prompt, **fields: Any) -> RowTask:
    """Return the task that continues a row which an earlier pass deferred."""
    with Journal(journal.path, read_only=True) as opened:
        history = opened.history(prompt.row_key)
        assert history is not None
        ends = opened.exchanges.of_row(prompt.row_key, prompt.fingerprint)
        outputs = opened.exchanges.outputs_of_row(prompt.row_key, prompt.fingerprint)
    values: Mapping[str, Any] = {"last": history.last, "ends": ends, "outputs": outputs, "is_deferred": True, **fields}
    return RowTask(prompt, **values)
