"""An engine over a scripted service and a real journal, and its parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from batchrun.engine import Engine, Limits, RetryPolicy, RowTask, RowWork
from batchrun.engine.service import Service
from batchrun.errors import (
    ServerFault,
    ServiceFault,
)
from batchrun.journal import Journal
from batchrun.records import Outcome
from tests.support.rows import noon, prompt
from tests.support.scripted_service import ScriptedService


@dataclass
class Bench:
    """An engine and its parts."""

    engine: Engine
    service: ScriptedService
    limits: Limits
    journal: Journal
    outcomes: list[Outcome] = field(default_factory=list)

    def outcome(self, row: int) -> Outcome:
        found = self.journal.outcome(str(row))
        assert found is not None
        return found[0]


def engine_for(service: Service, journal: Journal, limits: Limits, **options: Any) -> Engine:
    """An engine with the options that most tests share; `options` are those of `Engine`."""
    shared = {"policy": RetryPolicy(), "batch_id": "b", "clock": noon, "random_unit": lambda: 0.0}
    return Engine(service=service, journal=journal, limits=limits, **{**shared, **options})


def bench(journal: Journal, service: ScriptedService, *, limits: dict[str, Any] | None = None, **options: Any) -> Bench:
    outcomes: list[Outcome] = []
    made = Limits(**(limits or {}))
    engine = engine_for(service, journal, made, on_outcome=outcomes.append, **options)
    return Bench(engine, service, made, journal, outcomes)


def asks(rows: int) -> list[RowWork]:
    return [RowTask(prompt(row, f"q{row}")) for row in range(rows)]


def transient(kind: type[ServiceFault] = ServerFault, **fields: Any) -> ServiceFault:
    return kind("not now", **{"error_type": "server_error", **fields})


def columns(journal: Journal, row: int, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(attempt[name] for name in names) for attempt in journal.attempts(str(row))]


async def resumed(journal: Journal) -> Bench:
    """Run row 0 in the next process, as the first one left it."""
    with Journal(journal.path) as later:
        history = later.history("0")
        assert history is not None
        b = bench(later, ScriptedService())
        await b.engine.run([RowTask(prompt(0), history.last)])
    return b
