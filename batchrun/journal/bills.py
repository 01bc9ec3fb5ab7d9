"""The usage that the journal's outcomes were charged for: read to be priced again, and written back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from batchrun.errors import OutputError
from batchrun.journal.database import Database
from batchrun.records import JsonDict
from batchrun.token_usage import Usage

__all__ = ["Bill", "Ledger", "read_bills", "write_costs"]

Ledger: TypeAlias = Literal["outcomes", "superseded"]
"""The tables that hold outcomes: the current ones, and those that another attempt or another prompt replaced."""


@dataclass(frozen=True, slots=True)
class Bill:
    """One outcome that took tokens, or that has an answer.

    Attributes:
        number: SQLite's row id in its ledger.
        model: as the service named it, None if it did not.
        usage: as recorded; `raw` is the service's own object.
        cost_usd: as recorded, None if unknown.
    """

    ledger: Ledger
    number: int
    model: str | None
    usage: Usage
    cost_usd: float | None


def read_bills(path: Path) -> Iterator[Bill]:
    """Yield every bill in the journal at `path`, as of one moment.

    Raises:
        OutputError: the journal cannot be read.
    """
    database = Database(path, read_only=True)
    try:
        database.write("BEGIN")  # one snapshot for both tables
        for ledger in ("outcomes", "superseded"):
            for record in database.records(
                "SELECT rowid, model, cost_usd, prompt_tokens, completion_tokens, total_tokens, cached_tokens, "
                f"reasoning_tokens, raw_usage FROM {ledger} WHERE raw_usage IS NOT NULL "
                "OR prompt_tokens IS NOT NULL OR status IN ('completed', 'incomplete')"
            ):
                yield Bill(ledger, record["rowid"], record["model"], _usage(path, record), record["cost_usd"])
    finally:
        database.close()


def _usage(path: Path, record: JsonDict) -> Usage:
    raw = record["raw_usage"]
    try:
        service_usage = json.loads(raw) if raw else None
    except ValueError as exc:
        raise OutputError(f"{path}: the journal cannot be used (raw_usage is not valid JSON: {exc})") from exc
    return Usage(
        record["prompt_tokens"],
        record["completion_tokens"],
        record["total_tokens"],
        record["cached_tokens"],
        record["reasoning_tokens"],
        service_usage,
    )


def write_costs(path: Path, costs: Iterable[tuple[Bill, float]]) -> int:
    """Replace the recorded costs of bills, all or none; return how many differed. Nobody else may use the batch.

    Raises:
        OutputError: the journal cannot be written.
    """
    changed = 0
    database = Database(path)
    try:
        with database.transaction():
            for bill, cost_usd in costs:
                if cost_usd != bill.cost_usd:
                    database.write(f"UPDATE {bill.ledger} SET cost_usd = ? WHERE rowid = ?", (cost_usd, bill.number))
                    changed += 1
            if changed:
                # The output has the earlier costs: the next run of the batch writes it again.
                database.write("DELETE FROM manifest WHERE name = 'written'")
    finally:
        database.close()
    return changed
