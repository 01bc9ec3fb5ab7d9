"""Reading Arrow tables, and polars frames as Arrow tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from batchrun.errors import InputError
from batchrun.records import Row
from batchrun.tables.column_names import check_columns
from batchrun.tables.columnar import BATCH_ROWS, rows_of
from batchrun.tables.frame import content_fingerprint

__all__ = ["ArrowSource"]


@dataclass(frozen=True, slots=True)
class ArrowSource:
    """An Arrow table in memory. Cells are Python values, as from a Parquet file.

    Attributes:
        table: a `pyarrow.Table`, which is never changed.
        columns: the names of its columns.
    """

    table: Any
    columns: tuple[str, ...]

    @classmethod
    def open(cls, table: Any) -> ArrowSource:
        """Return the source after checking names and size.

        Raises:
            InputError: a column has no name or that of another, or there are no columns.
        """
        columns = list(table.column_names)
        check_columns(columns, "data")
        if not columns:
            raise InputError("data: the table has no columns")
        return cls(table, tuple(columns))

    @property
    def name(self) -> str:
        """Always `data`, the parameter of the Python functions."""
        return "data"

    def schema(self) -> Any:
        """Return the table's Arrow schema (`pyarrow.Schema`)."""
        return self.table.schema

    def batches(self) -> Iterator[Any]:
        """Yield the rows as Arrow batches (`pyarrow.RecordBatch`) of at most `BATCH_ROWS`, without copying them."""
        yield from self.table.to_batches(max_chunksize=BATCH_ROWS)

    def rows(self) -> Iterator[Row]:
        """Yield the rows, which are converted one batch at a time."""
        return rows_of(self.batches(), self.columns)

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of columns and values: a pandas frame of the same values has the same."""
        return content_fingerprint(self)
