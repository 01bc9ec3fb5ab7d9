"""Searches in vector stores that wait for the embedding of their query.

Without embeddings a search is answered at once, like any other request. With them its reply waits for an event log,
as the reply of a chat completion does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchrun.server.errors import ApiError, server_error
from batchrun.server.execution.kept_replies import keep_reply
from batchrun.server.execution.supervisor import Live, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchrun.server.search.file_search import EmbeddedIndex, Vector

__all__ = ["LiveSearch", "Searches"]


@dataclass(slots=True)
class LiveSearch(Live):
    """A search that has a task.

    Attributes:
        results: returns the reply's JSON text for the query's vector. It is synchronous, so that it sees one state of
            the store.
        is_kept: store the reply for an idempotency key; the caller has called `add_kept_reply`.
    """

    owner: str
    query: str
    embedded: EmbeddedIndex
    results: Callable[[Vector | None], str]
    is_kept: bool


class Searches(Supervisor[LiveSearch]):
    """Executes searches."""

    noun = "search"
    expected = (ApiError,)

    async def _answer(self, live: LiveSearch) -> None:
        vector = await live.embedded.query_vector(live.query)
        live.log.result = live.results(vector)

    def _settle(self, live: LiveSearch, failure: BaseException | None) -> None:
        log = live.log
        if isinstance(failure, Exception):
            log.failure = failure if isinstance(failure, ApiError) else server_error()
        is_finished = failure is None
        try:
            if live.is_kept:
                keep_reply(self._parts, live.owner, log, is_finished=is_finished)
        finally:
            log.close(done=is_finished)
