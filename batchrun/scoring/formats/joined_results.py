"""The rows of a table with the results of a batch, matched by a key column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from batchrun.errors import InputError
from batchrun.on_disk.key_places import KeyPlaces
from batchrun.on_disk.spool import Spool
from batchrun.records import OUTPUT_COLUMNS, Value
from batchrun.scoring.formats.conversion import Conversion
from batchrun.scoring.formats.importers.importers import imported
from batchrun.scoring.formats.notes import Notes
from batchrun.scoring.scorers.base import as_text
from batchrun.tables import ReadOptions, open_source

__all__ = ["joined_rows"]

_UNANSWERED = {"response": None, "status": "pending"}


class _Results:
    """The results of the files, outside of memory.

    Mutable state: the results; which of them a row has got; the columns of all of them.
    """

    def __init__(self, names: Sequence[str], conversion: Conversion, notes: Notes) -> None:
        self._ids, self._cells, self._is_used = KeyPlaces(), Spool(), bytearray()
        self.columns: set[str] = set()
        for result in imported(conversion.from_format, names, ReadOptions(), notes):
            custom_id = as_text(result.pop("custom_id"))
            place = self._ids.place(custom_id)
            if place is not None:
                notes.remark(
                    "results with a custom_id that occurs before, of which the last one that did not fail is used"
                )
                if result["status"] == "failed":
                    continue
                self._cells[place] = result
            else:
                self._ids.append(custom_id)
                self._cells.append(result)
                self._is_used.append(False)
            self.columns |= result.keys()

    def take(self, custom_id: str) -> dict[str, Value] | None:
        """Return a result; None if there is none.

        Raises:
            KeyError: it has been taken before.
        """
        place = self._ids.place(custom_id)
        if place is None:
            return None
        if self._is_used[place]:
            raise KeyError(custom_id)
        self._is_used[place] = True
        cells: dict[str, Value] = self._cells[place]
        return cells

    @property
    def left(self) -> int:
        """Number of results that no row has got."""
        return self._is_used.count(False)


def joined_rows(names: Sequence[str], conversion: Conversion, notes: Notes) -> Iterator[dict[str, Value]]:
    """Yield the rows of the joined table with the answers of batch results.

    Raises:
        InputError: a file cannot be read, the table has no such key column, or two rows have the same key.
    """
    assert conversion.join is not None
    assert conversion.key is not None
    table = open_source(conversion.join, ReadOptions(no_header=conversion.no_header))
    if conversion.key not in table.columns:
        raise InputError(f"--key {conversion.key}: {table.name} has no such column")
    results, without = _Results(names, conversion, notes), KeyPlaces()
    twice = [column for column in table.columns if column in OUTPUT_COLUMNS or column in results.columns]
    if twice:
        raise InputError(f"{table.name}: the results have a column {twice[0]!r} too; rename the table's column")
    for row in table.rows():
        key = as_text(row.values[conversion.key])
        try:
            cells = results.take(key)
            if cells is None:
                if without.place(key) is not None:
                    raise KeyError(key)
                without.append(key)
        except KeyError:
            raise InputError(
                f"{table.name}, {row.where}: two rows have the {conversion.key} {key!r}; a result belongs to one row"
            ) from None
        yield {**row.values, **(_UNANSWERED if cells is None else cells)}
    for _ in range(results.left):
        notes.add(f"results whose custom_id is not in {table.name}")
