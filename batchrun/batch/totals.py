"""Counts over the rows of an output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from batchrun.records import REFUSAL, Cells, JsonDict

__all__ = ["Totals", "count_cells", "count_formulas"]


@dataclass(slots=True)
class Totals:
    """Counts over the rows of a table.

    Mutable state: all counts; `count_cells` fills them.

    Attributes:
        by_status: status → rows.
        failures: error_type → rows without an answer.
        reasons: error_type → the error of the first such row.
        incompletes: error_type → rows with an incomplete answer.
        cost_usd: US dollars of the rows whose cost is known, None if no cost is.
        refused: rows that completed with a refusal: only the embedded tutor's count as completed.
        unpriced: rows with tokens or an answer, whose cost is unknown.
        formulas: answers that a spreadsheet would run as formulas; 0 if the output cannot hold formulas.
    """

    by_status: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    incompletes: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    unpriced: int = 0
    refused: int = 0
    formulas: int = 0

    def add(self, cells: Cells) -> None:
        """Count one row."""
        status = cells["status"]
        self.by_status[status] += 1
        if status == "incomplete":
            self.incompletes[cells["error_type"] or "incomplete"] += 1
        if status in ("failed", "expired", "cancelled"):
            self.failures[cells["error_type"]] += 1
            self.reasons.setdefault(cells["error_type"], cells["error"] or "")
        self.refused += status == "completed" and cells["error_type"] == REFUSAL
        self.prompt_tokens += cells["prompt_tokens"] or 0
        self.completion_tokens += cells["completion_tokens"] or 0
        if cells["cost_usd"] is not None:
            self.cost_usd = (self.cost_usd or 0.0) + cells["cost_usd"]
        elif cells["total_tokens"] is not None or status in ("completed", "incomplete"):
            self.unpriced += 1

    @property
    def failed(self) -> int:
        """Rows that ended without an answer."""
        return self.failures.total()


def count_cells(cells: Iterable[JsonDict], totals: Totals) -> Iterator[JsonDict]:
    """Yield the same cells, and count each row before it is passed on."""
    for row in cells:
        totals.add(row)
        yield row


def count_formulas(cells: Iterable[JsonDict], totals: Totals) -> Iterator[JsonDict]:
    """Yield the same cells, and count the answers that begin with `=`.

    `+`, `-` and `@` can begin a formula too, but so do lists and names.
    """
    for row in cells:
        if (response := row["response"]) and response[0] == "=":
            totals.formulas += 1
        yield row
