"""The embedded tutor as a service: what it cannot do is no fault of the row, and the rehearsal goes on."""

from __future__ import annotations

from dataclasses import replace

from batchrun.engine.service import OnIds, Reply, Service
from batchrun.records import REFUSAL, Attempt, Exchange

__all__ = ["Tutoring"]


class Tutoring:
    """Another service, whose refusals count as completed answers; their reason still says what they are."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def prepare(self) -> None:
        """As the other service."""
        await self._service.prepare()

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """As the other service, but for refusals."""
        return _accepted(await self._service.answer(exchange, attempt, on_ids))

    async def follow(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """As the other service, but for refusals."""
        return _accepted(await self._service.follow(exchange, attempt, on_ids))

    async def cancel(self, exchange: Exchange, attempt: Attempt) -> None:
        """As the other service."""
        await self._service.cancel(exchange, attempt)


def _accepted(reply: Reply) -> Reply:
    refused = reply.status == "incomplete" and reply.reason == REFUSAL
    return replace(reply, status="completed") if refused else reply
