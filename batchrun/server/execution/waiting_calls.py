"""Requests whose reply needs other work first: embeddings of texts, or the texts of files whose tokens are counted.

Their reply waits for an event log, as the reply of a chat completion does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchrun.server.errors import ApiError, server_error
from batchrun.server.execution.chats import api_error
from batchrun.server.execution.kept_replies import keep_reply
from batchrun.server.execution.supervisor import Live, Supervisor
from batchrun.server.responders.base import ResponderError
from batchrun.server.search.file_search import EmbeddingError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["LiveWaitingCall", "WaitingCalls"]


@dataclass(slots=True)
class LiveWaitingCall(Live):
    """A request that has a task.

    Attributes:
        answer: returns the reply's JSON text.
        is_kept: store the reply for an idempotency key; the caller has called `add_kept_reply`.
    """

    owner: str
    answer: Callable[[], Awaitable[str]]
    is_kept: bool


class WaitingCalls(Supervisor[LiveWaitingCall]):
    """Executes requests whose reply waits."""

    noun = "request"
    expected = (ApiError, EmbeddingError, ResponderError)

    async def _answer(self, live: LiveWaitingCall) -> None:
        live.log.result = await live.answer()

    def _settle(self, live: LiveWaitingCall, failure: BaseException | None) -> None:
        log = live.log
        if isinstance(failure, Exception):
            log.failure = _error(failure)
        is_finished = failure is None
        try:
            if live.is_kept:
                keep_reply(self._parts, live.owner, log, is_finished=is_finished)
        finally:
            log.close(done=is_finished)


def _error(failure: Exception) -> ApiError:
    if isinstance(failure, ApiError):
        return failure
    if isinstance(failure, ResponderError):
        return api_error(failure)
    if isinstance(failure, EmbeddingError):
        return ApiError(502, str(failure), type="server_error")
    return server_error()
