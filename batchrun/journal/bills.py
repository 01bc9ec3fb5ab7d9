"""What the journal's outcomes were billed for: read to be priced again, and written back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from batchrun.errors import OutputError
from batchrun.records import Usage

__all__ = ["Bill", "Ledger", "read_bills", "write_costs"]

Ledger: TypeAlias = Literal["outcomes", "superseded"]
"""The tables that hold outcomes: those that stand, and those that another try or another prompt replaced."""


@dataclass(frozen=True, slots=True)
class Bill:
    """One outcome that took tokens, or that has an answer.

    Attributes:
        number: SQLite's row id in its ledger.
        model: as the service named it, None where it did not.
        usage: as recorded; `raw` is the service's own object.
        cost_usd: as recorded, None for unknown.
    """

    ledger: Ledger
    number: int
    model: str | None
    usage: Usage
    cost_usd: float | None


def read_bills(path: Path) -> Iterator[Bill]:
    """Every bill in the journal at `path`, as of one moment.

    Raises:
        OutputError: the journal cannot be read.
    """
    try:
        with closing(_open(path)) as db:
            db.execute("BEGIN")
            for ledger in ("outcomes", "superseded"):
                for number, model, cost_usd, read, written, total, cached, reasoning, raw in db.execute(
                    "SELECT rowid, model, cost_usd, prompt_tokens, completion_tokens, total_tokens, cached_tokens, "
                    f"reasoning_tokens, raw_usage FROM {ledger} WHERE raw_usage IS NOT NULL "
                    "OR prompt_tokens IS NOT NULL OR status IN ('completed', 'incomplete')"
                ):
                    usage = Usage(read, written, total, cached, reasoning, json.loads(raw) if raw else None)
                    yield Bill(ledger, number, model, usage, cost_usd)
    except (sqlite3.Error, ValueError) as exc:
        raise OutputError(f"{path}: the journal cannot be read ({exc})") from exc


def write_costs(path: Path, costs: Iterable[tuple[Bill, float]]) -> int:
    """Replace the recorded cost of bills, all or none; returns how many differed. Nobody else may work on the batch.

    Raises:
        OutputError: the journal cannot be written.
    """
    changed = 0
    try:
        with closing(_open(path)) as db:
            db.execute("BEGIN IMMEDIATE")
            for bill, cost_usd in costs:
                if cost_usd != bill.cost_usd:
                    db.execute(f"UPDATE {bill.ledger} SET cost_usd = ? WHERE rowid = ?", (cost_usd, bill.number))
                    changed += 1
            db.execute("COMMIT")
    except sqlite3.Error as exc:
        raise OutputError(f"{path}: the journal cannot be written ({exc})") from exc
    return changed


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=10)
