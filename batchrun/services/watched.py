"""A service whose replies are looked at: what they show about the service is a line for the user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from batchrun.engine.service import OnIds, Reply, Service
from batchrun.records import Attempt, Exchange

__all__ = ["Look", "WatchedService"]

Look: TypeAlias = Callable[[Reply], None]


class WatchedService:
    """A service that passes everything to another service, and shows its replies to each of `looks`."""

    def __init__(self, service: Service, looks: Sequence[Look]) -> None:
        self._service = service
        self._looks = looks

    async def prepare(self) -> None:
        """Pass the call to the other service."""
        await self._service.prepare()

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """Pass the call to the other service, and look at its reply."""
        return self._seen(await self._service.answer(exchange, attempt, on_ids))

    async def follow(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """Pass the call to the other service, and look at its reply."""
        return self._seen(await self._service.follow(exchange, attempt, on_ids))

    async def cancel(self, exchange: Exchange, attempt: Attempt) -> None:
        """Pass the call to the other service."""
        await self._service.cancel(exchange, attempt)

    def _seen(self, reply: Reply) -> Reply:
        for look in self._looks:
            look(reply)
        return reply
