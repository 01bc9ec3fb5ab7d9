"""Stage 7's join: what the journal knows, beside the input's rows, in input order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from batchrun.errors import InputError
from batchrun.journal import Journal
from batchrun.prompts.combinations import combinations_of
from batchrun.prompts.templates import Prompter, PromptError
from batchrun.records import OUTPUT_COLUMNS, REFUSAL, Prompt, Row
from batchrun.structured import SchemaMismatch, Structure
from batchrun.tables import ReadOptions, Source, WriteOptions, expand, open_source

__all__ = ["UNASKED", "AddedColumns", "Totals", "counted", "pending_cells", "prompts_of", "result_cells", "source_of"]

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


class AddedColumns:
    """The columns that a batch's settings add behind `OUTPUT_COLUMNS`, and what a row has in them."""

    def __init__(self, settings: Mapping[str, Any], structure: Structure | None = None) -> None:
        """
        Args:
            settings: as the journal keeps them.
            structure: of the answers, where it is at hand; else it is made from the settings.
        """
        turns = len(settings.get("turns") or ())
        self._responses = range(1, turns + 1) if turns > 1 else range(0)
        if structure is None and "schema" in settings:
            structure = Structure.of_schema(settings["schema"])
        self._structure = structure
        self._extras: dict[str, type] = {}
        if settings.get("functions"):
            self._extras |= {"tool_calls": int, "tool_errors": int}
        if settings.get("file_search") or (settings.get("api") == "assistants" and _attaches(settings)):
            self._extras |= {"citations": list}
        if settings.get("code_interpreter"):
            self._extras |= {"files": list}

    @property
    def types(self) -> Mapping[str, type]:
        """Name → type, in order."""
        return {
            **{f"response_{turn}": str for turn in self._responses},
            **(self._structure.columns if self._structure is not None else {}),
            **self._extras,
        }

    def cells(self, journal: Journal, row_key: str, fingerprint: str, outcome: Mapping[str, Any]) -> dict[str, Any]:
        """What a row has in them.

        Args:
            outcome: its cells in `OUTPUT_COLUMNS`.
        """
        cells: dict[str, Any] = {}
        if self._responses:
            tries = outcome["attempts"]
            answers = journal.exchanges.answers(row_key, fingerprint, tries) if tries is not None else {}
            cells |= {f"response_{turn}": answers.get(turn) for turn in self._responses}
        if self._structure is not None:
            cells |= self._fields(outcome)
        if self._extras:
            found = journal.extras(row_key) if outcome["completed_at"] is not None else {}
            cells |= {name: found.get(name) for name in self._extras}
        return cells

    def _fields(self, outcome: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of an answer that has the form asked for."""
        assert self._structure is not None
        if outcome["status"] == "completed":
            try:
                return self._structure.read(outcome["response"])
            except SchemaMismatch:
                pass
        return dict.fromkeys(self._structure.columns)


def _attaches(settings: Mapping[str, Any]) -> bool:
    """Whether rows bring files along."""
    return bool(settings.get("attach") or "attach" in (settings.get("matrix") or {}))


def result_cells(source: Source, prompter: Prompter, journal: Journal, added: AddedColumns) -> Iterator[dict[str, Any]]:
    """One mapping per row, in order, with the keys of `OUTPUT_COLUMNS` and of `added`.

    Each answer is joined to the row whose prompt it answers, so that an input that was edited meanwhile shows
    rows as pending rather than with the answer to another question.
    """
    more = bool(added.types)
    for row_key, _, prompt in prompts_of(source, prompter):
        fingerprint = UNASKED if isinstance(prompt, PromptError) else prompt.fingerprint
        cells = journal.cells(row_key, fingerprint)
        yield {**cells, **added.cells(journal, row_key, fingerprint, cells)} if more else cells


def pending_cells(source: Source, added: AddedColumns) -> Iterator[dict[str, Any]]:
    """The same for a table of which no row can be asked: another than the one that the batch began with."""
    for _ in source.rows():
        yield {**dict.fromkeys(OUTPUT_COLUMNS), "status": "pending", **dict.fromkeys(added.types)}


@dataclass(slots=True)
class Totals:
    """What the rows of a table came to; filled by `counted`.

    Attributes:
        by_status: status → rows.
        failures: error_type → rows without an answer.
        reasons: error_type → what the first of them says.
        incompletes: error_type → rows whose answer is incomplete.
        cost_usd: None while no row's cost is known.
        refused: rows that completed with a refusal, as only the embedded tutor's do.
        unpriced: rows that took tokens, or have an answer, and whose cost is not known.
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

    def add(self, cells: Mapping[str, Any]) -> None:
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


def counted(cells: Iterable[dict[str, Any]], totals: Totals) -> Iterator[dict[str, Any]]:
    """The same cells, counted as they pass."""
    for row in cells:
        totals.add(row)
        yield row


def source_of(manifest: Mapping[str, Any], spool: Any) -> tuple[Source, WriteOptions]:
    """The input of a batch, each row as often as it is asked, and how its output is written; from its journal alone.

    Raises:
        InputError: the input is gone, or was a DataFrame.
    """
    name = manifest["input"]
    if name is None:
        raise InputError("the input of this batch was a DataFrame, which is gone; run the batch again to see its rows")
    source = open_source(spool if name == "-" else name, ReadOptions(**manifest["read_options"]))
    source = expand(source, [each.cells for each in combinations_of(manifest["settings"])])
    options = WriteOptions(**manifest["write_options"], extra_columns=AddedColumns(manifest["settings"]).types)
    return source, options
