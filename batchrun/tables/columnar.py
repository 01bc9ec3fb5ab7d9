"""Reading Parquet and Arrow files (Feather).

Arrow and pandas are imported inside the functions that use them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

from batchrun.errors import InputError
from batchrun.records import Row
from batchrun.tables.column_names import check_columns
from batchrun.tables.files import check_readable, digest, reading
from batchrun.tables.values import plain

__all__ = ["BATCH_ROWS", "ColumnarKind", "ColumnarSource", "rows_of"]

BATCH_ROWS: Final = 256
_OF_STREAM: Final = b"\xff\xff\xff\xff"
"""The beginning of Arrow's stream format: https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format."""

ColumnarKind: TypeAlias = Literal["parquet", "feather"]


@dataclass(frozen=True, slots=True)
class ColumnarSource:
    """A Parquet or Arrow file. Cells are Python values. Values that JSON does not have are text (see `plain`).

    Attributes:
        path: path of the file.
        name: the name that the user gave, for messages.
        kind: the format of the file.
        columns: names of the top-level columns.
        notes: lines for people about the file.
    """

    path: Path
    name: str
    kind: ColumnarKind
    columns: tuple[str, ...]
    notes: tuple[str, ...]

    @classmethod
    def open(cls, path: Path, name: str, kind: ColumnarKind, notes: tuple[str, ...] = ()) -> ColumnarSource:
        """Return the source after reading the file's schema.

        Raises:
            InputError: the file does not have this format, or a column has no name or that of another.
        """
        check_readable(path, name)
        with _opened(path, name, kind) as file:
            columns = list(file.schema.names)
        check_columns(columns, name)
        if not columns:
            raise InputError(f"{name}: the table has no columns")
        return cls(path, name, kind, tuple(columns), notes)

    def schema(self) -> Any:
        """Return the stored Arrow schema (`pyarrow.Schema`)."""
        with _opened(self.path, self.name, self.kind) as file:
            return file.schema

    def batches(self) -> Iterator[Any]:
        """Yield the rows as Arrow batches (`pyarrow.RecordBatch`) of at most `BATCH_ROWS` with the stored types."""
        with _opened(self.path, self.name, self.kind) as file:
            if tuple(file.schema.names) != self.columns:
                raise InputError(f"{self.name}: the columns differ; the file changed while it was read")
            yield from file.batches()

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


class _File(Protocol):
    """An open file of either format: its schema, and its rows in batches."""

    schema: Any

    def batches(self) -> Iterator[Any]: ...


class _Parquet:
    def __init__(self, path: Path, stack: ExitStack) -> None:
        import pyarrow.parquet as pq

        # pre_buffer would keep whole row groups in memory.
        self._file = stack.enter_context(pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20))
        self.schema = self._file.schema_arrow

    def batches(self) -> Iterator[Any]:
        # Threads would read row groups in advance. One batch at a time limits the memory.
        yield from self._file.iter_batches(batch_size=BATCH_ROWS, use_threads=False)


class _Feather:
    def __init__(self, path: Path, stack: ExitStack) -> None:
        import pyarrow as pa

        content = stack.enter_context(pa.memory_map(str(path)))
        is_stream = content.read_at(4, 0) == _OF_STREAM
        if is_stream and content.read_at(8, max(0, content.size() - 8)) != _OF_STREAM + bytes(4):
            # Arrow would read the batches before the cut, and say nothing.
            raise pa.ArrowInvalid("the stream has no end: it is cut off, or its writer was not closed")
        self._file = stack.enter_context(pa.ipc.open_stream(content) if is_stream else pa.ipc.open_file(content))
        self._is_stream = is_stream
        self.schema = self._file.schema

    def batches(self) -> Iterator[Any]:
        for batch in self._file if self._is_stream else map(self._file.get_batch, range(self._file.num_record_batches)):
            for first in range(0, batch.num_rows, BATCH_ROWS):
                yield batch.slice(first, BATCH_ROWS)


@contextmanager
def _opened(path: Path, name: str, kind: ColumnarKind) -> Iterator[_File]:
    with _reading(name, kind), ExitStack() as stack:
        yield _Parquet(path, stack) if kind == "parquet" else _Feather(path, stack)


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
def _reading(name: str, kind: ColumnarKind) -> Iterator[None]:
    import pyarrow as pa

    with reading(name):
        try:
            yield
        except (pa.ArrowException, OSError) as exc:
            # Arrow also reports damaged files as OSError, but without an errno.
            if isinstance(exc, OSError) and exc.errno is not None:
                raise
            reason = str(exc).partition("\n")[0]
            called = "a Parquet" if kind == "parquet" else "an Arrow"
            raise InputError(f"{name}: is not {called} file or is damaged ({reason})") from exc
