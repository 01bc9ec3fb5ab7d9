"""The embedded tutor as a service: its refusals do not fail a row, so that a rehearsal continues."""

from __future__ import annotations

from dataclasses import replace

from batchrun.engine.service import OnIds, Reply, Service
from batchrun.records import REFUSAL, Attempt, Exchange

__all__ = ["Tutoring"]


class Tutoring:
    """A service that counts the refusals of another service as completed answers. Their reason is still `refusal`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def prepare(self) -> None:
        """Pass the call to the other service."""
        await self._service.prepare()

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """Pass the call to the other service, and count a refusal as completed."""
        return _accepted(await self._service.answer(exchange, attempt, on_ids))

    async def follow(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """Pass the call to the other service, and count a refusal as completed."""
        return _accepted(await self._service.follow(exchange, attempt, on_ids))

    async def cancel(self, exchange: Exchange, attempt: Attempt) -> None:
        """Pass the call to the other service."""
        await self._service.cancel(exchange, attempt)


def _accepted(reply: Reply) -> Reply:
    refused = reply.status == "incomplete" and reply.reason == REFUSAL
    return replace(reply, status="completed") if refused else reply
