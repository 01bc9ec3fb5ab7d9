"""Stage 7's join: what the journal knows, beside the input's rows, in input order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from batchrun.errors import InputError
from batchrun.journal import Journal
from batchrun.prompts import Prompter, PromptError
from batchrun.records import Prompt, Row
from batchrun.tables import ReadOptions, Source, WriteOptions, open_source

__all__ = ["UNASKED", "Totals", "counted", "prompts_of", "result_cells", "source_of"]

UNASKED = ""
"""Stands for the fingerprint of a row that has no prompt."""


def prompts_of(source: Source, prompter: Prompter) -> Iterator[tuple[str, Row, Prompt | PromptError]]:
    """(row_key, row, prompt or why there is none) for every input row, in order."""
    for row in source.rows():
        row_key = prompter.row_key(row)
        try:
            yield row_key, row, prompter.render(row)
        except PromptError as exc:
            yield row_key, row, exc


def result_cells(source: Source, prompter: Prompter, journal: Journal) -> Iterator[dict[str, Any]]:
    """One mapping per input row, in order, with the keys of `OUTPUT_COLUMNS`.

    Each answer is joined to the row whose prompt it answers, so that an input that was edited meanwhile shows
    rows as pending rather than with the answer to another question.
    """
    for row_key, _, prompt in prompts_of(source, prompter):
        yield journal.cells(row_key, UNASKED if isinstance(prompt, PromptError) else prompt.fingerprint)


@dataclass(slots=True)
class Totals:
    """What the rows of a table came to; filled by `counted`.

    Attributes:
        by_status: status → rows.
        failures: error_type → rows without an answer.
        reasons: error_type → what the first of them says.
        cost_usd: None while no row's cost is known.
        unpriced: rows that took tokens, or have an answer, and whose cost is not known.
    """

    by_status: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    unpriced: int = 0

    def add(self, cells: Mapping[str, Any]) -> None:
        """Count one row."""
        status = cells["status"]
        self.by_status[status] += 1
        if status in ("failed", "expired", "cancelled"):
            self.failures[cells["error_type"]] += 1
            self.reasons.setdefault(cells["error_type"], cells["error"] or "")
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


def counted(cells: Iterable[dict[str, Any]], totals: Totals) -> Iterator[dict[str, Any]]:
    """The same cells, counted as they pass."""
    for row in cells:
        totals.add(row)
        yield row


def source_of(manifest: Mapping[str, Any], spool: Any) -> tuple[Source, WriteOptions]:
    """The input of a batch and how its output is written, from its journal alone.

    Raises:
        InputError: the input is gone, or was a DataFrame.
    """
    name = manifest["input"]
    if name is None:
        raise InputError("the input of this batch was a DataFrame, which is gone; run the batch again to see its rows")
    source = open_source(spool if name == "-" else name, ReadOptions(**manifest["read_options"]))
    return source, WriteOptions(**manifest["write_options"])
