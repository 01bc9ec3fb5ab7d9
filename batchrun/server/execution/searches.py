"""Searches in vector stores that wait for the embedding of their query.

Without embeddings a search is decided at once, like any other request. With them it waits as a chat completion
does: on a log that its reply reads the result from.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from batchrun.server.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchrun.server.execution.parts import Parts
    from batchrun.server.replies.event_log import EventLog
    from batchrun.server.search.file_search import EmbeddedIndex, Vector

__all__ = ["Searches"]

logger = logging.getLogger("batchrun.server")


class Searches:
    """Executes searches. Mutable state: `live` (search id → its log)."""

    def __init__(self, parts: Parts) -> None:
        self.live: dict[str, EventLog] = {}
        self._parts = parts

    def launch(
        self, owner: str, query: str, embedded: EmbeddedIndex, log: EventLog,
        results: Callable[[Vector | None], str], *, keep: bool,
    ) -> None:  # fmt: skip
        """Search, and let the log come to the results.

        Args:
            results: the reply's JSON text, by the query's vector; synchronous, so that it sees one state of the store.
            keep: store the reply, for an idempotency key; the caller has added the object `log.stream`, a
                `completion`: what a key repeats is kept, forgotten and after a crash freed by that kind.
        """
        self.live[log.stream] = log
        self._parts.tasks.start_soon(self._execute, owner, query, embedded, log, results, keep)

    async def _execute(
        self, owner: str, query: str, embedded: EmbeddedIndex, log: EventLog,
        results: Callable[[Vector | None], str], keep: bool,
    ) -> None:  # fmt: skip
        try:
            vector = await embedded.query_vector(query)
            log.result = results(vector)
        except ApiError as error:
            log.failure = error
        except Exception:
            logger.exception("search %s met an error of the server", log.stream)
            log.failure = ApiError(500, "The server had an error while processing your request.", type="server_error")
        finally:
            try:
                if keep:
                    self._keep(owner, log)
            except Exception:
                logger.exception("search %s could not be stored", log.stream)
            log.close(done=log.result is not None)
            self.live.pop(log.stream, None)

    def _keep(self, owner: str, log: EventLog) -> None:
        """Store what the key has to repeat; a search without results frees its key."""
        parts = self._parts
        with parts.database.transaction():
            if log.result is None:
                parts.objects.remove(log.stream)
                parts.replies.release(owner, log.stream)
            else:
                parts.objects.save({"id": log.stream, "result": log.result}, status="completed")
                parts.replies.keep_events(log.stream, 0, b"", parts.clock.now())
