"""A started server: its shared parts and the workers that execute runs and all other work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchrun.server.execution.chats import Chats
from batchrun.server.execution.hosted_tools import HostedTools
from batchrun.server.execution.ingestion import Ingestion
from batchrun.server.execution.responses import Responses
from batchrun.server.execution.runs import Runs
from batchrun.server.execution.service_batches import ServiceBatches
from batchrun.server.execution.waiting_calls import WaitingCalls
from batchrun.server.replies.planned_faults import PlannedFaults

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchrun.server.execution.parts import Parts
    from batchrun.server.execution.supervisor import Live
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
    waiting_calls: WaitingCalls
    ingestion: Ingestion
    service_batches: ServiceBatches
    faults: PlannedFaults

    @classmethod
    def over(cls, parts: Parts, plan: FaultPlan | None) -> Core:
        """Return a server over these parts that executes nothing yet."""
        ingestion = Ingestion(parts)
        tools = HostedTools(parts, ingestion)
        return cls(
            parts=parts,
            runs=Runs(parts, tools),
            responses=Responses(parts, tools),
            chats=Chats(parts),
            waiting_calls=WaitingCalls(parts),
            ingestion=ingestion,
            service_batches=ServiceBatches(parts),
            faults=PlannedFaults(plan),
        )

    def live_log(self, stream: str) -> EventLog | None:
        """Return the event log of a run, response, completion or search that is executing, or None."""
        for units in self._replying:
            live = units.get(stream)
            if live is not None:
                return live.log
        return None

    def live_logs(self) -> list[EventLog]:
        """Return all event logs that clients may be reading and that can still grow."""
        return [live.log for units in self._replying for live in units.values()]

    @property
    def _replying(self) -> tuple[Mapping[str, Live], ...]:
        return (self.runs.live, self.responses.live, self.chats.live, self.waiting_calls.live)
