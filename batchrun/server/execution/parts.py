"""The parts that everything in a started server shares: settings, store, clock, responder and limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import anyio
    from anyio.abc import TaskGroup

    from batchrun.server.clock import Clock
    from batchrun.server.execution.rate_limits import RateLimits
    from batchrun.server.responders.base import Responder
    from batchrun.server.search.file_search import EmbeddedIndex, SearchIndex
    from batchrun.server.search.text_reader import TextReader
    from batchrun.server.settings import ServerSettings
    from batchrun.server.store import Blobs, Database, Objects, Replies, RequestLines

__all__ = ["Parts"]


@dataclass(frozen=True, slots=True)
class Parts:
    """The shared parts of a started server.

    Attributes:
        embedded: `index` with embeddings; None if it ranks by words alone.
        tasks: the task group of all runs, responses, completions, searches and ingestions.
        slots: admits at most `max_concurrent_runs` answers at once, in order of arrival.
    """

    settings: ServerSettings
    responder: Responder
    clock: Clock
    database: Database
    objects: Objects
    replies: Replies
    blobs: Blobs
    request_lines: RequestLines
    index: SearchIndex
    embedded: EmbeddedIndex | None
    reader: TextReader
    limits: RateLimits
    tasks: TaskGroup
    slots: anyio.Semaphore

    def now(self) -> int:
        """Return the time in whole seconds, the unit of `created_at`."""
        return int(self.clock.now())
