"""A started server: its shared parts and the workers that execute runs, responses, completions and searches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchrun.server.execution.chats import Chats
from batchrun.server.execution.hosted_tools import HostedTools
from batchrun.server.execution.ingestion import Ingestion
from batchrun.server.execution.responses import Responses
from batchrun.server.execution.runs import Runs
from batchrun.server.execution.searches import Searches
from batchrun.server.replies.planned_faults import PlannedFaults

if TYPE_CHECKING:
    from batchrun.server.execution.parts import Parts
    from batchrun.server.replies.event_log import EventLog
    from batchrun.server.responders.fault_injection import FaultPlan

__all__ = ["Core"]


@dataclass(frozen=True, slots=True)
class Core:
    """The parts and workers of a started server.

    Attributes:
        faults: draws the planned faults of HTTP requests.
    """

    parts: Parts
    runs: Runs
    responses: Responses
    chats: Chats
    searches: Searches
    ingestion: Ingestion
    faults: PlannedFaults

    @classmethod
    def over(cls, parts: Parts, plan: FaultPlan | None) -> Core:
        """Return a server over these parts that executes nothing yet."""
        ingestion = Ingestion(parts)
        return cls(
            parts=parts,
            runs=Runs(parts, HostedTools(parts, ingestion)),
            responses=Responses(parts),
            chats=Chats(parts),
            searches=Searches(parts),
            ingestion=ingestion,
            faults=PlannedFaults(plan),
        )

    def live_log(self, stream: str) -> EventLog | None:
        """Return the event log of a run, response, completion or search that is executing, or None."""
        run = self.runs.live.get(stream)
        if run is not None:
            return run.writer.log
        response = self.responses.live.get(stream)
        if response is not None:
            return response.log
        return self.chats.live.get(stream) or self.searches.live.get(stream)

    def live_logs(self) -> list[EventLog]:
        """Return all event logs that can still grow."""
        return [
            *(run.writer.log for run in self.runs.live.values()),
            *(response.log for response in self.responses.live.values()),
            *self.chats.live.values(),
            *self.searches.live.values(),
        ]
