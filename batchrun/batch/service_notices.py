"""What a run of a batch finds out about its service, apart from answers: at most one line of each kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from batchrun.batch.plan import Plan
from batchrun.clock import WallClock
from batchrun.services.shutdown_dates import ShutdownLookup
from batchrun.services.wire import Wire

__all__ = ["ServiceNotices", "shutdown_lookup"]


@dataclass(slots=True)
class ServiceNotices:
    """Lines for the summary.

    Mutable state: `found`, kind of line → lines.
    """

    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, line: str) -> None:
        """Add one of several lines of a kind."""
        self.found.setdefault(kind, []).append(line)

    def add_once(self, kind: str, line: str) -> None:
        """Add the only line of a kind: the first one counts."""
        self.found.setdefault(kind, [line])

    def lines(self) -> tuple[str, ...]:
        """Return all lines."""
        return tuple(line for lines in self.found.values() for line in lines)


def shutdown_lookup(plan: Plan, wire: Wire, notices: ServiceNotices, clock: WallClock) -> ShutdownLookup | None:
    """Return the look-up of shutdown dates, of all models that rows name and the fallback model.

    None where no service has any: offline, or with --azure, whose list has the models of a region and not the
    deployments that rows name.
    """
    models = {model for model in (*plan.models, plan.job.fallback_model) if model is not None}
    if plan.destination.is_embedded or plan.job.azure or not models:
        return None
    return ShutdownLookup(wire, models, partial(notices.add, "shutdown"), clock)
