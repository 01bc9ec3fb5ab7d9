"""A service for the engine whose every move a test decides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import anyio

from batchrun.engine.service import OnIds
from batchrun.errors import ServiceFault
from batchrun.records import Attempt, Exchange, Reply
from batchrun.token_usage import Usage

__all__ = ["Asked", "Move", "ScriptedService", "answered"]


def answered(text: str = "yes", *, usage: Usage | None = None) -> Reply:
    """Return the reply of a completed run."""
    return Reply("completed", text, usage if usage is not None else Usage(10, 5, 15), "m")


@dataclass(frozen=True, slots=True)
class Move:
    """The script of one call.

    Attributes:
        end: the returned reply or the raised fault; None for a call that never ends.
        ids: thread and run that the call reports; "own" makes them from the row and the number of the call, and None
            reports none.
        after_s: seconds from the report of the ids to the end.
        with_reply: whether the ids come with the reply.
    """

    end: Reply | ServiceFault | None = field(default_factory=answered)
    ids: tuple[str, str] | Literal["own"] | None = "own"
    after_s: float = 1.0
    with_reply: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that the engine made."""

    method: Literal["answer", "follow", "cancel"]
    row_key: str
    attempt: Attempt
    at_s: float
    exchange: Exchange


class ScriptedService:
    """A service in which each call takes the next move of its row, or `otherwise` if none is left.

    Mutable state: the moves that are left; `asked`, all calls in order; `in_flight` and `most_in_flight`; `prepared`.
    """

    def __init__(
        self,
        moves: Mapping[int, Iterable[Move]] | None = None,
        *,
        otherwise: Move | None = None,
        prepare: Iterable[ServiceFault | float] = (),
        cancel: ServiceFault | float | None = None,
    ) -> None:
        """
        Args:
            prepare: what its first calls do: raise, or take so many seconds.
            cancel: what every call of `cancel` does.
        """
        self._moves = {str(row): list(each) for row, each in (moves or {}).items()}
        self._otherwise = otherwise or Move()
        self._prepare = list(prepare)
        self._cancel = cancel
        self._calls: dict[str, int] = defaultdict(int)
        self.asked: list[Asked] = []
        self.prepared = 0
        self.in_flight = 0
        self.most_in_flight = 0

    async def prepare(self) -> None:
        self.prepared += 1
        if self._prepare:
            await _act(self._prepare.pop(0))

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        return await self._play("answer", exchange, attempt, on_ids)

    async def follow(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        return await self._play("follow", exchange, attempt, on_ids)

    async def cancel(self, exchange: Exchange, attempt: Attempt) -> None:
        self.asked.append(Asked("cancel", "", attempt, anyio.current_time(), exchange))
        if self._cancel is not None:
            await _act(self._cancel)

    def of(self, method: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == method]

    async def _play(
        self, method: Literal["answer", "follow"], exchange: Exchange, attempt: Attempt, on_ids: OnIds
    ) -> Reply:
        key = exchange.row_key
        self.asked.append(Asked(method, key, attempt, anyio.current_time(), exchange))
        self._calls[key] += 1
        left = self._moves.get(key)
        move = left.pop(0) if left else self._otherwise
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            ids = move.ids
            if ids == "own":
                ids = (exchange.thread_id or f"thread_{key}_{self._calls[key]}", f"run_{key}_{self._calls[key]}")
            if method == "follow" or attempt.run_id is not None:
                ids = None  # they are known: the run is followed, or continues with outputs
            if ids is not None and not move.with_reply:
                on_ids(*ids)
            if move.end is None:
                await anyio.sleep_forever()
            await anyio.sleep(move.after_s)
            if ids is not None and move.with_reply:
                on_ids(*ids, with_reply=True)
        finally:
            self.in_flight -= 1
        if isinstance(move.end, Reply):
            return move.end
        assert move.end is not None
        raise move.end


async def _act(what: ServiceFault | float) -> None:
    if isinstance(what, ServiceFault):
        raise what
    await anyio.sleep(what)
