"""Notices a server that does not apply --max-completion-tokens: an answer is longer, and was not cut off."""

from __future__ import annotations

from collections.abc import Callable

from batchrun.engine.service import OnIds, Reply, Service
from batchrun.job.options import Api, Job
from batchrun.records import Attempt, Exchange
from batchrun.services.finish_reason import CUT, SMALL_LIMIT
from batchrun.shell_hint import option

__all__ = ["TokenLimitWatch"]


class TokenLimitWatch:
    """A service that passes everything to another service, and looks at the usage of its replies."""

    def __init__(self, service: Service, job: Job, api: Api, on_ignored: Callable[[str], None]) -> None:
        """
        Args:
            job: has `max_completion_tokens`.
            on_ignored: called with one line for each answer that is too long.
        """
        self._service = service
        self._limit = max(job.max_completion_tokens or 0, SMALL_LIMIT)
        self._on_ignored = on_ignored
        self._remedy = ""
        if api == "chat" and "max_tokens" not in job.param:
            self._remedy = f"; use {option('--param', f'max_tokens={job.max_completion_tokens}')} instead"

    async def prepare(self) -> None:
        """Pass the call to the other service."""
        await self._service.prepare()

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """Pass the call to the other service, and look at its reply."""
        return self._checked(await self._service.answer(exchange, attempt, on_ids))

    async def follow(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """Pass the call to the other service, and look at its reply."""
        return self._checked(await self._service.follow(exchange, attempt, on_ids))

    async def cancel(self, exchange: Exchange, attempt: Attempt) -> None:
        """Pass the call to the other service."""
        await self._service.cancel(exchange, attempt)

    def _checked(self, reply: Reply) -> Reply:
        written = reply.usage.completion_tokens
        if written is not None and written > self._limit and reply.status != "failed" and reply.reason != CUT:
            self._on_ignored(
                f"the service does not apply --max-completion-tokens: an answer of {written:,} tokens was not cut off"
                f"{self._remedy}"
            )
        return reply
