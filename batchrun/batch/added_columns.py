"""The columns that a batch adds to the output after the usual ones, and their cells."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from copy import copy
from dataclasses import replace
from typing import Final

from batchrun.journal import Journal
from batchrun.records import JsonDict, JsonObject, Manifest, Settings
from batchrun.structured import SchemaMismatch, Structure
from batchrun.tables import WriteOptions

__all__ = ["AddedColumns", "recorded_columns"]

_CARRIED: Final[Mapping[str, type]] = {
    "tool_calls": int,
    "tool_errors": int,
    "citations": list,
    "files": list,
    "reasoning": str,
    "service_tier": str,
    "logprobs": list,
    "raw": dict,
    "cached_from": str,
}
"""What answers carry besides their text → the type of its column."""


class AddedColumns:
    """The columns that a batch adds after `OUTPUT_COLUMNS`, and their cells.

    They are the answers of several turns, the fields of a schema, and what answers carried: a column if the settings or
    `keep` ask for it, or if an answer of the batch had something to put there. The last kind gets the name
    `response_NAME` if the table or the schema has a column NAME.
    """

    def __init__(
        self,
        settings: Settings,
        structure: Structure | None = None,
        *,
        cached: bool = False,
        keep: Iterable[str] = (),
        found: Iterable[str] = (),
        taken: Collection[str] = (),
        prefix: str = "",
    ) -> None:
        """
        Args:
            settings: the settings of the batch, as its journal stores them.
            structure: the schema of the answers if it is loaded already; None loads it from the settings.
            cached: answers may come from a cache.
            keep: what the user wants to keep of each reply.
            found: what answers of the batch carried.
            taken: columns of the table.
            prefix: prefix of the output columns.
        """
        turns = len(settings.get("turns") or ())
        self._responses = range(1, turns + 1) if turns > 1 else range(0)
        if structure is None and "schema" in settings:
            structure = Structure.of_schema(settings["schema"])
        self._structure = structure
        self._taken, self._prefix = taken, prefix
        self.has_cached = cached
        self._wanted = {*_asked_for(settings), *keep, *(("cached_from",) if cached else ())}
        self._carried = self._named(found)

    def _named(self, found: Iterable[str]) -> dict[str, str]:
        """Return column → what it holds of an answer's extras."""
        wanted = {*self._wanted, *found}
        own = {*(f"response_{turn}" for turn in self._responses), *(self._structure.columns if self._structure else ())}
        columns = {}
        for name in _CARRIED:
            if name in wanted:
                column = name
                while column in own or self._prefix + column in self._taken:
                    column = f"response_{column}"
                columns[column] = name
        return columns

    def with_cached(self) -> AddedColumns:
        """Return these columns and the one for answers from a cache."""
        added = copy(self)
        added.has_cached = True
        added._wanted = {*self._wanted, "cached_from"}
        added._carried = added._named(())
        return added

    def with_found(self, journal: Journal, options: WriteOptions) -> tuple[AddedColumns, WriteOptions]:
        """Return (these columns and those of what answers in the journal carried; the options of an output with them).

        Args:
            options: of the output.
        """
        added = copy(self)
        added._carried = self._named(journal.carried())
        return added, replace(options, extra_columns=added.types)

    @property
    def types(self) -> Mapping[str, type]:
        """The type of each column by its name, in order."""
        return {
            **{f"response_{turn}": str for turn in self._responses},
            **(self._structure.columns if self._structure is not None else {}),
            **{column: _CARRIED[name] for column, name in self._carried.items()},
        }

    @property
    def field_columns(self) -> tuple[str, ...]:
        """The columns of a schema's fields as the output names them, in order."""
        return tuple(self._prefix + column for column in self._structure.columns) if self._structure is not None else ()

    def cells(self, journal: Journal, row_key: str, fingerprint: str, outcome: JsonObject) -> JsonDict:
        """Return a row's cells in these columns.

        Args:
            outcome: the row's cells in `OUTPUT_COLUMNS`.
        """
        cells: JsonDict = {}
        if self._responses:
            attempts = outcome["attempts"]
            answers = journal.exchanges.answers(row_key, fingerprint, attempts) if attempts is not None else {}
            cells |= {f"response_{turn}": answers.get(turn) for turn in self._responses}
        if self._structure is not None:
            cells |= self._fields(outcome)
        if self._carried:
            found = journal.extras(row_key) if outcome["completed_at"] is not None else {}
            cells |= {column: found.get(name) for column, name in self._carried.items()}
        return cells

    def _fields(self, outcome: JsonObject) -> JsonDict:
        """Return the fields of an answer that follows the schema; empty cells for any other."""
        assert self._structure is not None
        if outcome["status"] == "completed":
            try:
                return self._structure.read(outcome["response"])
            except SchemaMismatch:
                pass
        return dict.fromkeys(self._structure.columns)


def recorded_columns(manifest: Manifest, columns: Collection[str]) -> AddedColumns:
    """Return the columns that a batch has added so far.

    Args:
        manifest: of the batch, from its journal.
        columns: the columns of its table.
    """
    return AddedColumns(
        manifest["settings"],
        cached=manifest.get("cache", False),
        keep=manifest.get("keep") or (),
        found=manifest.get("carried") or (),
        taken=columns,
        prefix=manifest["write_options"].get("prefix", ""),
    )


def _asked_for(settings: Settings) -> Iterable[str]:
    """Yield what the settings make answers carry."""
    if settings.get("functions"):
        yield from ("tool_calls", "tool_errors")
    if settings.get("file_search") or (settings.get("api") == "assistants" and _has_attachments(settings)):
        yield "citations"
    if settings.get("code_interpreter"):
        yield "files"
    if (settings.get("param") or {}).get("service_tier") is not None:
        yield "service_tier"


def _has_attachments(settings: Settings) -> bool:
    """Return whether rows send files."""
    return bool(settings.get("attach") or "attach" in (settings.get("matrix") or {}))
