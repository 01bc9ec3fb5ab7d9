"""The states of a run and all transitions between them, in one table.

    queued ──start──▶ in_progress ──complete──▶ completed
      ▲                 │  ├──fail─────────────▶ failed
      │                 │  ├──cut──────────────▶ incomplete
      └─submit─ requires_action ◀──call
    queued, in_progress, requires_action ──cancel──▶ cancelling ──stop──▶ cancelled
    queued, in_progress, requires_action ──expire──▶ expired

A run that was in progress when the server was killed returns to `queued` by `restart`. A `cancelling` run does not
expire, because `stop` ends it without any outside event.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

from batchrun.server.protocol.bodies import RunStatus

__all__ = ["ACTIVE", "TERMINAL", "TRANSITIONS", "IllegalTransition", "RunEvent", "RunStatus", "advance"]

RunEvent: TypeAlias = Literal[
    "start", "call", "submit", "complete", "fail", "cut", "cancel", "stop", "expire", "restart"
]

TRANSITIONS: MappingProxyType[tuple[RunStatus, RunEvent], RunStatus] = MappingProxyType(
    {
        ("queued", "start"): "in_progress",
        ("queued", "fail"): "failed",
        ("queued", "cancel"): "cancelling",
        ("queued", "expire"): "expired",
        ("queued", "restart"): "queued",
        ("in_progress", "call"): "requires_action",
        ("in_progress", "complete"): "completed",
        ("in_progress", "fail"): "failed",
        ("in_progress", "cut"): "incomplete",
        ("in_progress", "cancel"): "cancelling",
        ("in_progress", "expire"): "expired",
        ("in_progress", "restart"): "queued",
        ("requires_action", "submit"): "queued",
        ("requires_action", "cancel"): "cancelling",
        ("requires_action", "expire"): "expired",
        ("cancelling", "stop"): "cancelled",
    }
)
"""All legal transitions: (status, event) → next status."""

ACTIVE: frozenset[RunStatus] = frozenset({"queued", "in_progress", "requires_action", "cancelling"})
"""The states in which a run locks its thread."""

TERMINAL: frozenset[RunStatus] = frozenset(get_args(RunStatus)) - ACTIVE


class IllegalTransition(Exception):
    """The event is not possible in this state."""

    def __init__(self, status: RunStatus, event: RunEvent) -> None:
        super().__init__(f"a run in status {status} cannot {event}")
        self.status = status
        self.event = event


def advance(status: RunStatus, event: RunEvent) -> RunStatus:
    """Return the status after `event`.

    Raises:
        IllegalTransition: the table has no such transition.
    """
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise IllegalTransition(status, event) from None
