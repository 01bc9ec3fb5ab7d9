"""What all operations share: the file, the responder, the settings, the time, and whatever is running."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchrun.server.execution.chats import Chats
from batchrun.server.execution.hosted_tools import HostedTools
from batchrun.server.execution.ingestion import Ingestion
from batchrun.server.execution.responses import Responses
from batchrun.server.execution.runs import Runner
from batchrun.server.execution.searches import Searches
from batchrun.server.replies.planned_faults import PlannedFaults

if TYPE_CHECKING:
    import anyio
    from anyio.abc import TaskGroup

    from batchrun.server.clock import Clock
    from batchrun.server.execution.rate_limits import RateLimits
    from batchrun.server.replies.event_log import EventLog
    from batchrun.server.responders.base import Responder
    from batchrun.server.responders.fault_injection import FaultPlan
    from batchrun.server.search.file_search import EmbeddedIndex, SearchIndex
    from batchrun.server.settings import ServerSettings
    from batchrun.server.store import Blobs, Database, Objects, Replies

__all__ = ["Core", "Parts"]


@dataclass(frozen=True, slots=True)
class Parts:
    """What everything that executes is made of.

    Attributes:
        embedded: `index` with embeddings; None where it ranks by words alone.
        tasks: where runs, responses and completions have their tasks.
        slots: admits `max_concurrent_runs` of them at once, in the order of their arrival.
    """

    settings: ServerSettings
    responder: Responder
    clock: Clock
    database: Database
    objects: Objects
    replies: Replies
    blobs: Blobs
    index: SearchIndex
    embedded: EmbeddedIndex | None
    limits: RateLimits
    tasks: TaskGroup
    slots: anyio.Semaphore

    def now(self) -> int:
        """Whole seconds, as `created_at` counts them."""
        return int(self.clock.now())


@dataclass(frozen=True, slots=True)
class Core:
    """A started server, as operations see it."""

    parts: Parts
    settings: ServerSettings
    clock: Clock
    database: Database
    objects: Objects
    replies: Replies
    runner: Runner
    responses: Responses
    chats: Chats
    searches: Searches
    ingestion: Ingestion
    faults: PlannedFaults

    @classmethod
    def over(cls, parts: Parts, plan: FaultPlan | None) -> Core:
        """A server made of these parts, with nothing running yet."""
        ingestion = Ingestion(parts)
        return cls(
            parts=parts,
            settings=parts.settings,
            clock=parts.clock,
            database=parts.database,
            objects=parts.objects,
            replies=parts.replies,
            runner=Runner(parts, HostedTools(parts, ingestion)),
            responses=Responses(parts),
            chats=Chats(parts),
            searches=Searches(parts),
            ingestion=ingestion,
            faults=PlannedFaults(plan),
        )

    def now(self) -> int:
        """Whole seconds, as `created_at` counts them."""
        return self.parts.now()

    def live_log(self, stream: str) -> EventLog | None:
        """The event log of a run, response, completion or search that is executing."""
        run = self.runner.live.get(stream)
        if run is not None:
            return run.writer.log
        response = self.responses.live.get(stream)
        if response is not None:
            return response.log
        return self.chats.live.get(stream) or self.searches.live.get(stream)

    def live_logs(self) -> list[EventLog]:
        """All event logs that still grow."""
        return [
            *(run.writer.log for run in self.runner.live.values()),
            *(response.log for response in self.responses.live.values()),
            *self.chats.live.values(),
            *self.searches.live.values(),
        ]
