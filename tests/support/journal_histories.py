"""Histories of rows for tests of journals: any steps, recorded in several journals alike."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from batchrun.errors import ServerFault
from batchrun.journal import Carried, Created, Journal
from batchrun.journal.shard_rows import copy_new
from batchrun.records import CallKey, Reply, RunEnd, ToolOutput
from batchrun.token_usage import Usage
from tests.support.rows import NOON, attempt, completed, failed, prompt

__all__ = [
    "BATCH",
    "CUT",
    "KINDS",
    "MEMORY",
    "REMOTE",
    "ROWS",
    "STEPS",
    "History",
    "content",
    "new_copy",
    "new_journal",
]

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""A folder in memory, where fsync takes no time."""
ROWS = 5
BATCH = {"batch_id": "batch_1", "settings": {"embedded": False}, "rows": ROWS, "prices": [{"matched": "m"}]}
TABLES = ("outcomes", "superseded", "attempts", "exchanges", "outputs", "created", "cool_downs", "manifest")


def new_journal(path: Path) -> Journal:
    journal = Journal(path)
    journal.write_manifest(BATCH)
    return journal


def content(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of all tables, in an order of their own; without what only the main journal of shards has."""
    with closing(sqlite3.connect(path)) as db:
        found = {table: sorted(db.execute(f"SELECT * FROM {table}").fetchall(), key=repr) for table in TABLES}
    found["manifest"] = [entry for entry in found["manifest"] if not entry[0].startswith("gathered/")]
    return found


@dataclass(slots=True)
class Model:
    """What the steps of a history need to know about one row; the same for a journal with shards and for one without."""

    begun: int = 0
    is_open: bool = False
    was_sent: bool = False
    runs: int = 0
    ended: bool = False


@dataclass(slots=True)
class History:
    """Steps of rows, each recorded by the journal's own methods.

    Mutable state: `models`, by row; `steps`, the number of steps so far, which makes every moment and every id another.
    """

    models: dict[int, Model] = field(default_factory=lambda: {row: Model() for row in range(ROWS)})
    steps: int = 0

    def send(self) -> None:
        """Send all open attempts: from now on none is withdrawn."""
        for model in self.models.values():
            model.was_sent = True

    def record(self, row: int, kind: str, journals: list[Journal]) -> None:
        """Record a step of a row in each of the journals."""
        self.steps += 1
        model, at, name = self.models[row], NOON + timedelta(seconds=self.steps), f"{kind}_{row}_{self.steps}"
        asked, key = prompt(row, f"question {row}", f"fp{'b' if kind == 'other' else 'a'}"), str(row)
        if kind in ("begin", "redo", "other") and not model.is_open:
            redo = 1 if kind == "redo" else None
            for journal in journals:
                journal.begin_attempt(asked, attempt(model.begun + 1, 1, name), at, redo_from_turn=redo)
            model.begun, model.is_open = model.begun + 1, True
            model.was_sent = False
        elif kind == "withdraw" and model.is_open and not model.was_sent:
            for journal in journals:
                journal.withdraw_attempt(key, model.begun)
            model.begun, model.is_open = model.begun - 1, False
        elif kind == "ids" and model.is_open:
            for journal in journals:
                journal.set_ids(key, model.begun, f"thread_{name}", f"run_{name}")
        elif kind == "fault" and model.is_open:
            fault = ServerFault("it broke", error_type="http_500", run_ended=row % 2 == 0)
            for journal in journals:
                journal.record_fault(key, model.begun, fault)
            model.is_open = False
        elif kind in ("run", "fallback") and model.is_open:
            model.runs, model.was_sent = model.runs + 1, True
            reply = Reply("completed", name, Usage(1, 1, 2, raw={"step": self.steps}), "m")
            end = RunEnd(model.runs, 1 + model.runs % 2, model.begun, "asked", reply, f"thread_{name}", name)
            for journal in journals:
                if kind == "run":
                    journal.run_ended(key, "fpa", end, with_ids=True)
                    output = ToolOutput("call", name, failed=False)
                    journal.exchanges.add_output(key, "fpa", end.turn, CallKey(name, 0, "call"), output)
                else:
                    journal.fall_back(asked, end, ServerFault("no answer", error_type="x"), with_ids=True)
            model.is_open = kind == "run"
        elif kind in ("completed", "own_ids", "carried", "extras") and model.is_open:
            outcome = completed(
                row,
                name,
                attempts=model.begun,
                completed_at=at,
                run_id=name,
                cost_usd=0.25,
                usage=Usage(5, 3, 8, raw={"step": self.steps}),
                extras={f"extra_{row}": name} if kind == "extras" else None,
            )
            carried = Carried(Usage(1, 1, 2), 0.125) if kind == "carried" and model.ended else None
            for journal in journals:
                journal.finish(outcome, "fpa", with_ids=kind == "own_ids", carried=carried)
            model.is_open, model.ended = False, True
        elif kind == "failed":
            for journal in journals:
                journal.finish(failed(row, attempts=model.begun, completed_at=at), "fpa")
            model.is_open, model.ended = False, True
        elif kind == "created":
            for journal in journals:
                journal.created.add(Created("thread", name, key), "place")
                if row % 2:
                    journal.created.deleted(name, at)
        elif kind == "cool_down":
            for journal in journals:
                journal.cooled_down(at, 1.5, name)
        elif kind == "price":
            for journal in journals:
                known = journal.read_manifest()["prices"]
                journal.write_manifest({"prices": [*known, {"matched": "new"}] if len(known) == 1 else known})


KINDS = (
    *(
        "begin",
        "begin",
        "begin",
        "redo",
        "other",
        "withdraw",
        "ids",
        "fault",
        "run",
        "fallback",
        "completed",
        "own_ids",
    ),
    *("carried", "extras", "failed", "created", "cool_down", "price"),
)
STEPS = st.lists(st.tuples(st.integers(0, ROWS - 1), st.sampled_from(KINDS)), max_size=25)
CUT = st.lists(st.integers(0, 1), min_size=ROWS, max_size=ROWS)
"""The number of the shard of each row."""


REMOTE = st.lists(
    st.tuples(st.integers(0, ROWS - 1), st.sampled_from((*KINDS, "copy", "copy", "unconfirmed", "lost"))), max_size=40
)


def new_copy(shard: Path, path: Path, since: list[int]) -> list[int]:
    """Make a copy of what is new in the place of the last one."""
    path.unlink(missing_ok=True)
    return copy_new(shard, path, since)
