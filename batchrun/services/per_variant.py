"""Several combinations of settings in one batch: a service for each, over the same connection and limits."""

from __future__ import annotations

from collections.abc import Sequence

from batchrun.engine.service import OnIds, Reply, Service
from batchrun.records import Attempt, Exchange

__all__ = ["Variants"]


class Variants:
    """A service that hands each exchange to the one of its variant."""

    def __init__(self, services: Sequence[Service]) -> None:
        self._services = services

    async def prepare(self) -> None:
        """Prepare all of them."""
        for service in self._services:
            await service.prepare()

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """As the exchange's own service."""
        return await self._services[exchange.variant].answer(exchange, attempt, on_ids)

    async def follow(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """As the exchange's own service."""
        return await self._services[exchange.variant].follow(exchange, attempt, on_ids)

    async def cancel(self, exchange: Exchange, attempt: Attempt) -> None:
        """As the exchange's own service."""
        await self._services[exchange.variant].cancel(exchange, attempt)
