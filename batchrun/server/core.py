"""What all operations share: the file, the runs, the settings and the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchrun.server.clock import Clock
    from batchrun.server.responders.base import Responder
    from batchrun.server.runner import Runner
    from batchrun.server.settings import ServerSettings
    from batchrun.server.store import Database, Objects, Replies

__all__ = ["Core"]


@dataclass(frozen=True, slots=True)
class Core:
    """The parts of a started server."""

    settings: ServerSettings
    responder: Responder
    clock: Clock
    database: Database
    objects: Objects
    replies: Replies
    runner: Runner

    def now(self) -> int:
        """Whole seconds, as `created_at` counts them."""
        return int(self.clock.now())
