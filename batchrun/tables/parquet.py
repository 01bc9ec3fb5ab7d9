"""Parquet in. Only this module, `frame` and `arrow` import Arrow or pandas, inside the functions that need them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from batchrun.errors import InputError
from batchrun.records import Row
from batchrun.tables.files import check_readable, digest, reading
from batchrun.tables.text import check_columns
from batchrun.tables.values import plain

__all__ = ["ParquetSource"]

BATCH_ROWS: Final = 256


@dataclass(frozen=True, slots=True)
class ParquetSource:
    """A Parquet file. Cells are Python values; those without a counterpart in JSON are text (see `plain`).

    Attributes:
        path: where the file is.
        name: as the user gave it, for messages.
        columns: names of the top-level columns.
    """

    path: Path
    name: str
    columns: tuple[str, ...]

    @classmethod
    def open(cls, path: Path, name: str) -> ParquetSource:
        """Reads the footer.

        Raises:
            InputError: no Parquet file, unusable column names, or no rows.
        """
        check_readable(path, name)
        with _reading(name), _file(path) as file:
            columns = list(file.schema_arrow.names)
            rows = file.metadata.num_rows
        check_columns(columns, name)
        if not columns or not rows:
            raise InputError(f"{name}: a table without rows; nothing to do")
        return cls(path, name, tuple(columns))

    def schema(self) -> Any:
        """The Arrow schema (`pyarrow.Schema`) as stored."""
        with _reading(self.name), _file(self.path) as file:
            return file.schema_arrow

    def batches(self) -> Iterator[Any]:
        """The rows as Arrow batches (`pyarrow.RecordBatch`) of at most `BATCH_ROWS`, types as stored."""
        with _reading(self.name), _file(self.path) as file:
            if tuple(file.schema_arrow.names) != self.columns:
                raise InputError(f"{self.name}: other columns; the file changed while it was read")
            # Threads would read row groups ahead; one batch at a time bounds the memory.
            yield from file.iter_batches(batch_size=BATCH_ROWS, use_threads=False)

    def rows(self) -> Iterator[Row]:
        """The rows from the first on, streamed."""
        columns = self.columns
        row_index = 0
        for batch in self.batches():
            cells = [_cells(batch.column(i)) for i in range(len(columns))]
            for values in zip(*cells, strict=True):
                yield Row(row_index, dict(zip(columns, values, strict=True)))
                row_index += 1

    def fingerprint(self) -> str:
        """SHA-256 (hex) of name, size and content."""
        return digest(self.path, self.name)


def _file(path: Path) -> Any:
    import pyarrow.parquet as pq

    # pre_buffer would hold whole row groups.
    return pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)


def _cells(column: Any) -> list[Any]:
    import pyarrow.types as types

    kind = column.type
    is_plain = (
        types.is_integer(kind) or types.is_boolean(kind) or types.is_null(kind)
        or types.is_floating(kind) or types.is_string(kind) or types.is_large_string(kind)
    )  # fmt: skip
    values: list[Any] = column.to_pylist()
    return values if is_plain else [plain(value) for value in values]


@contextmanager
def _reading(name: str) -> Iterator[None]:
    import pyarrow as pa

    with reading(name):
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            # Arrow reports damage as an OSError too, one that has no number of the system's.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            reason = str(error).partition("\n")[0]
            raise InputError(f"{name}: not a Parquet file, or a damaged one ({reason})") from error
