"""The columns of a page, from the columns of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from batchrun.records import OUTPUT_COLUMNS
from batchrun.reporting.answer_fields import TableFields
from batchrun.reporting.rows import Column, RowColumns

__all__ = ["ColumnNames", "columns_of"]


@dataclass(frozen=True, slots=True)
class ColumnNames:
    """The names of the answer column and of the scorers, and the columns with fields of the answers."""

    answer: str
    scorers: Sequence[str] = ()
    fields: TableFields = field(default_factory=TableFields)


def columns_of(
    listed: Sequence[str], prefix: str, names: ColumnNames, key: str | None = None, target: str | None = None
) -> RowColumns:
    """Return the columns of a table: its own, those of batchrun, and those of scores after the status.

    Args:
        listed: names of the table's columns.
        prefix: prefix of the output columns.
        names: names of the answer column, of the scorers and of the columns with fields.
        key: column with row ids; None if rows are numbered.
        target: column with the expected answer; None if no such column is named.
    """
    outputs = {(names.answer if name == "response" else prefix + name): name for name in OUTPUT_COLUMNS}
    # A batch names these columns `response_…` if its table has one of the same name.
    carried = {f"{prefix}{before}{name}": name for before in ("", "response_") for name in ("citations", "reasoning")}

    def of_table(name: str) -> Column:
        if name in outputs:
            return Column(name, "output", outputs[name])
        return Column(name, "field" if name in names.fields.own else "own", name, carried.get(name))

    columns = [*map(of_table, listed), *(Column(name, "field", key) for name, key in names.fields.derived.items())]
    if all(column.key != "status" or column.role != "output" for column in columns):
        columns.append(Column(prefix + "status", "output", "status"))  # derived from the answer
    status = next(place for place, column in enumerate(columns) if (column.role, column.key) == ("output", "status"))
    scores = [
        column
        for scorer in names.scorers
        for column in (Column(f"score_{scorer}", "score", scorer), Column(f"score_{scorer}_read", "read", scorer))
    ]
    return RowColumns([*columns[: status + 1], *scores, *columns[status + 1 :]], key, target)
