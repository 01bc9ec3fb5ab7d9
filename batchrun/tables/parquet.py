"""Reading Parquet. Arrow is imported in the functions that use it, here as in `frame`, `arrow` and `arrow_table`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from batchrun.errors import InputError
from batchrun.records import Row
from batchrun.tables.files import check_readable, digest, reading
from batchrun.tables.text import check_columns
from batchrun.tables.values import plain

__all__ = ["BATCH_ROWS", "ParquetSource", "rows_of"]

BATCH_ROWS: Final = 256


@dataclass(frozen=True, slots=True)
class ParquetSource:
    """A Parquet file. Cells are Python values. Values that JSON does not have are text (see `plain`).

    Attributes:
        path: path of the file.
        name: the name that the user gave, for messages.
        columns: names of the top-level columns.
    """

    path: Path
    name: str
    columns: tuple[str, ...]

    @classmethod
    def open(cls, path: Path, name: str) -> ParquetSource:
        """Return the source after reading the file's footer.

        Raises:
            InputError: the file is not Parquet, a column has no name or that of another, or there are no rows.
        """
        check_readable(path, name)
        with _reading(name), _file(path) as file:
            columns = list(file.schema_arrow.names)
            rows = file.metadata.num_rows
        check_columns(columns, name)
        if not columns or not rows:
            raise InputError(f"{name}: the table has no rows")
        return cls(path, name, tuple(columns))

    def schema(self) -> Any:
        """Return the stored Arrow schema (`pyarrow.Schema`)."""
        with _reading(self.name), _file(self.path) as file:
            return file.schema_arrow

    def batches(self) -> Iterator[Any]:
        """Yield the rows as Arrow batches (`pyarrow.RecordBatch`) of at most `BATCH_ROWS` with the stored types."""
        with _reading(self.name), _file(self.path) as file:
            if tuple(file.schema_arrow.names) != self.columns:
                raise InputError(f"{self.name}: the columns differ; the file changed while it was read")
            # Threads would read row groups in advance. One batch at a time limits the memory.
            yield from file.iter_batches(batch_size=BATCH_ROWS, use_threads=False)

    def rows(self) -> Iterator[Row]:
        """Yield the rows, streamed from the file."""
        return rows_of(self.batches(), self.columns)

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the file's name, size and content."""
        return digest(self.path, self.name)


def rows_of(batches: Iterator[Any], columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of Arrow batches (`pyarrow.RecordBatch`)."""
    row_index = 0
    for batch in batches:
        cells = [_cells(batch.column(i)) for i in range(len(columns))]
        for values in zip(*cells, strict=True):
            yield Row(row_index, dict(zip(columns, values, strict=True)))
            row_index += 1


def _file(path: Path) -> Any:
    import pyarrow.parquet as pq

    # pre_buffer would keep whole row groups in memory.
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
        except (pa.ArrowException, OSError) as exc:
            # Arrow also reports damaged files as OSError, but without an errno.
            if isinstance(exc, OSError) and exc.errno is not None:
                raise
            reason = str(exc).partition("\n")[0]
            raise InputError(f"{name}: is not a Parquet file or is damaged ({reason})") from exc
