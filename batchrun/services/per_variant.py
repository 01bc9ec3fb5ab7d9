"""Several combinations of settings in one batch: one service each, with the same connections and rate limits."""

from __future__ import annotations

from collections.abc import Sequence

from batchrun.engine.service import OnIds, Reply, Service
from batchrun.records import Attempt, Exchange

__all__ = ["Variants"]


class Variants:
    """A service that passes each exchange to the service of its variant."""

    def __init__(self, services: Sequence[Service]) -> None:
        self._services = services

    async def prepare(self) -> None:
        """Prepare every service."""
        for service in self._services:
            await service.prepare()

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """Pass the exchange to the service of its variant."""
        return await self._services[exchange.variant].answer(exchange, attempt, on_ids)

    async def follow(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """Pass the exchange to the service of its variant."""
        return await self._services[exchange.variant].follow(exchange, attempt, on_ids)

    async def cancel(self, exchange: Exchange, attempt: Attempt) -> None:
        """Pass the exchange to the service of its variant."""
        await self._services[exchange.variant].cancel(exchange, attempt)
