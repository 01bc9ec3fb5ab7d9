"""The columns that a batch's settings add to the output, and their cells."""

from __future__ import annotations

from collections.abc import Mapping

from batchrun.journal import Journal
from batchrun.records import JsonDict, JsonObject, Settings
from batchrun.structured import SchemaMismatch, Structure

__all__ = ["AddedColumns"]


class AddedColumns:
    """The columns that a batch's settings add after `OUTPUT_COLUMNS`, and their cells."""

    def __init__(self, settings: Settings, structure: Structure | None = None, *, cached: bool = False) -> None:
        """
        Args:
            settings: the settings of the batch, as its journal stores them.
            structure: the schema of the answers if it is loaded already; None loads it from the settings.
            cached: answers may come from a cache.
        """
        turns = len(settings.get("turns") or ())
        self._responses = range(1, turns + 1) if turns > 1 else range(0)
        if structure is None and "schema" in settings:
            structure = Structure.of_schema(settings["schema"])
        self._structure = structure
        self._extras: dict[str, type] = {}
        if settings.get("functions"):
            self._extras |= {"tool_calls": int, "tool_errors": int}
        if settings.get("file_search") or (settings.get("api") == "assistants" and _has_attachments(settings)):
            self._extras |= {"citations": list}
        if settings.get("code_interpreter"):
            self._extras |= {"files": list}
        self.has_cached = cached
        if cached:
            self._extras |= {"cached_from": str}

    @property
    def types(self) -> Mapping[str, type]:
        """The type of each column by its name, in order."""
        return {
            **{f"response_{turn}": str for turn in self._responses},
            **(self._structure.columns if self._structure is not None else {}),
            **self._extras,
        }

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
        if self._extras:
            found = journal.extras(row_key) if outcome["completed_at"] is not None else {}
            cells |= {name: found.get(name) for name in self._extras}
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


def _has_attachments(settings: Settings) -> bool:
    """Return whether rows send files."""
    return bool(settings.get("attach") or "attach" in (settings.get("matrix") or {}))
