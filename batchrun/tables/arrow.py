"""Writing Parquet and Arrow files (Feather): the input as Arrow batches, with the columns of the outcomes added.

The types of the columns depend on the input:

- Parquet, Arrow: unchanged. Values are never converted to Python, so that nanoseconds, decimals and nested values stay
  exact.
- A frame: the type that Arrow chooses for the column. A column that Arrow cannot convert is stored like JSON Lines.
- CSV, TSV: text.
- JSON Lines, and the columns of combinations: found in a first pass. The type is int64, float64, bool or text if all
  values of the column fit without loss (integers next to fractions fit up to 2**53), otherwise JSON text, as for nested
  or mixed values and larger integers.

`pyarrow.array` imports pandas, so the first Parquet output of a process takes a second longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import IO, Any, Final

from batchrun.records import Cells, Row, Value
from batchrun.tables.arrow_table import ArrowSource
from batchrun.tables.columnar import BATCH_ROWS, ColumnarKind, ColumnarSource
from batchrun.tables.expanded import ExpandedSource
from batchrun.tables.frame import FrameSource
from batchrun.tables.parts import PartsSource
from batchrun.tables.source import Source
from batchrun.tables.table_options import WriteOptions, check_added_columns
from batchrun.tables.text import TextSource
from batchrun.tables.values import AddedKind, ColumnKind, KindOf, added_kind, json_text, kind_of, plain

__all__ = ["joined", "portions", "to_arrow", "write_columnar"]

_GROUP_ROWS: Final = 1 << 16
_GROUP_BYTES: Final = 1 << 26
_BATCH_CHARS: Final = 1 << 26


def write_columnar(file: IO[bytes], *, kind: ColumnarKind, schema: Any, batches: Iterator[Any]) -> int:
    """Write batches in row groups of at most 65,536 rows or about 64 MiB, and return the number of rows.

    Raises:
        ValueError, KeyError: see `joined`.
        OSError: the file cannot be written.
    """
    import pyarrow as pa

    rows = 0
    writer = _writer(file, kind, schema)
    try:
        group: list[Any] = []
        size = 0
        for batch in batches:
            group.append(batch)
            rows += batch.num_rows
            size += batch.nbytes
            if len(group) * BATCH_ROWS >= _GROUP_ROWS or size >= _GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(group))
                group, size = [], 0
        if group:
            writer.write_table(pa.Table.from_batches(group))
        writer.close()
    except BaseException:
        # Otherwise the garbage collector closes the writer later, which fails because its file is already closed.
        with suppress(Exception):
            writer.close()
        raise
    return rows


def to_arrow(source: Source, cells: Iterator[Cells], options: WriteOptions) -> Any:
    """Return input and outcomes side by side as a `pyarrow.Table`, with the types that Parquet output has.

    Raises:
        InputError: an added column has the name of a column of the input.
        ValueError: `cells` and `source` have different numbers of rows.
        KeyError: a mapping lacks a key.
    """
    import pyarrow as pa

    check_added_columns(options, source.columns, source.name)
    schema, batches = joined(source, cells, options)
    return pa.Table.from_batches(batches, schema=schema)


def portions(batches: Iterator[Any], most: int) -> Iterator[Iterator[Any]]:
    """Yield the batches in portions of at most `most` rows, each to be consumed before the next; at least one, even if
    there are no rows."""
    following = (batch for batch in batches if batch.num_rows)
    rest: Any = None

    def portion() -> Iterator[Any]:
        nonlocal rest
        left = most
        while left and (batch := rest if rest is not None else next(following, None)) is not None:
            rest = batch.slice(left) if batch.num_rows > left else None
            yield batch.slice(0, left)
            left -= min(left, batch.num_rows)

    yield portion()
    while rest is not None or (rest := next(following, None)) is not None:
        yield portion()


def joined(source: Source, cells: Iterator[Cells], options: WriteOptions) -> tuple[Any, Iterator[Any]]:
    """Return schema and batches of the input with the columns of the outcomes after its own.

    The batches raise ValueError if `cells` and `source` have different numbers of rows, and KeyError if a mapping lacks
    a key.
    """
    import pyarrow as pa

    schema, batches = _input(source)
    kinds = {key: added_kind(kind) for key, kind in options.keys.items()}
    for key, name in zip(kinds, options.added_columns, strict=True):
        schema = schema.append(pa.field(_utf8(name), _arrow_type(kinds[key])))

    def both() -> Iterator[Any]:
        rows = 0
        for batch in batches:
            outcomes = list(islice(cells, batch.num_rows))
            rows += len(outcomes)
            if len(outcomes) < batch.num_rows:
                raise ValueError(f"there are fewer outcomes ({rows}) than rows in the input")
            added = [_array([outcome[key] for outcome in outcomes], kind) for key, kind in kinds.items()]
            yield pa.RecordBatch.from_arrays([*batch.columns, *added], schema=schema)
        if next(cells, None) is not None:
            raise ValueError(f"there are more outcomes than rows in the input ({rows})")

    return schema, both()


def _writer(file: IO[bytes], kind: ColumnarKind, schema: Any) -> Any:
    if kind == "parquet":
        import pyarrow.parquet as pq

        return pq.ParquetWriter(file, schema)
    import pyarrow as pa

    return pa.ipc.new_file(file, schema, options=pa.ipc.IpcWriteOptions(compression="zstd"))


def _input(source: Source) -> tuple[Any, Iterator[Any]]:
    """Return schema and batches of the input."""
    import pyarrow as pa

    if isinstance(source, ExpandedSource):
        return _expanded(source)
    first = source.parts[0] if isinstance(source, PartsSource) else source
    if isinstance(first, ColumnarSource | ArrowSource):
        whole: Any = source
        return whole.schema(), whole.batches()
    if isinstance(source, FrameSource):
        table = pa.table(
            [_frame_column(source, i) for i in range(len(source.columns))], names=list(map(_utf8, source.columns))
        )
        return table.schema, iter(table.to_batches(max_chunksize=BATCH_ROWS))
    kinds: dict[str, ColumnKind]
    if isinstance(first, TextSource):
        kinds = dict.fromkeys(source.columns, "text")
    else:
        column_kinds = {column: KindOf(set()) for column in source.columns}
        for row in source.rows():
            for column, value in row.values.items():
                column_kinds[column].add(value)
        kinds = {column: kind_of_column.kind for column, kind_of_column in column_kinds.items()}
    schema = pa.schema([pa.field(_utf8(column), _arrow_type(kind)) for column, kind in kinds.items()])
    return schema, _batches(source.rows(), kinds, schema)


def _expanded(source: ExpandedSource) -> tuple[Any, Iterator[Any]]:
    """Return schema and batches of the input with every row once per combination, and the combination's cells last."""
    import pyarrow as pa

    schema, batches = _input(source.source)
    times = len(source.combinations)
    cells = {name: [each[name] for each in source.combinations] for name in source.combinations[0]}
    kinds = {name: kind_of(values) for name, values in cells.items()}
    for name, kind in kinds.items():
        schema = schema.append(pa.field(_utf8(name), _arrow_type(kind)))

    def expanded() -> Iterator[Any]:
        # A slice has so few rows that its expansion is about one batch.
        step = max(1, BATCH_ROWS // times)
        for batch in batches:
            for first in range(0, batch.num_rows, step):
                part = batch.slice(first, step)
                rows = part.num_rows
                columns = part.take(pa.array([row for row in range(rows) for _ in range(times)])).columns
                added = [_array(values * rows, kinds[name]) for name, values in cells.items()]
                yield pa.RecordBatch.from_arrays([*columns, *added], schema=schema)

    return schema, expanded()


def _batches(rows: Iterator[Row], kinds: Mapping[str, ColumnKind], schema: Any) -> Iterator[Any]:
    import pyarrow as pa

    for chunk in _chunks(rows):
        arrays = [_array([row.values[column] for row in chunk], kind) for column, kind in kinds.items()]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield lists of at most `BATCH_ROWS` rows, or fewer if their text is long."""
    chunk: list[Row] = []
    chars = 0
    for row in rows:
        chunk.append(row)
        chars += sum(len(value) for value in row.values.values() if type(value) is str)
        if len(chunk) == BATCH_ROWS or chars > _BATCH_CHARS:
            yield chunk
            chunk, chars = [], 0
    if chunk:
        yield chunk


def _frame_column(source: FrameSource, position: int) -> Any:
    import pyarrow as pa

    column = source.frame.iloc[:, position]
    try:
        array = pa.array(column, from_pandas=True)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError, ValueError):
        # A column of mixed types or of objects that Arrow cannot convert.
        values = [
            None if missing else plain(value)
            for value, missing in zip(column.tolist(), column.isna().tolist(), strict=True)
        ]
        return _array(values, kind_of(values))
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array


def _arrow_type(kind: AddedKind) -> Any:
    import pyarrow as pa

    types = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "time": pa.timestamp("us", tz="UTC")}
    return types.get(kind, pa.string())


def _array(values: list[Value], kind: AddedKind) -> Any:
    import pyarrow as pa

    if kind == "json":
        values = [None if value is None else json_text(plain(value)) for value in values]
    elif kind == "float":
        values = [None if value is None else float(value) for value in values]
    elif kind == "time":
        values = [None if value is None else datetime.fromisoformat(value) for value in values]
    try:
        return pa.array(values, _arrow_type(kind))
    except UnicodeEncodeError:
        return pa.array([None if text is None else _utf8(text) for text in values], _arrow_type(kind))


def _utf8(text: str) -> str:
    """Return the text with lone surrogates as escapes: models may produce them, and UTF-8 cannot encode them."""
    return text.encode("utf-8", "backslashreplace").decode()
