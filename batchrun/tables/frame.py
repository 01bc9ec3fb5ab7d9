"""Reading and writing pandas frames."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from batchrun.errors import InputError
from batchrun.records import Cells, Row, Value
from batchrun.tables.table_options import check_added_columns
from batchrun.tables.text import check_columns
from batchrun.tables.values import ColumnKind, json_text, kind_of, plain

if TYPE_CHECKING:
    import pandas as pd

    from batchrun.tables.source import Source
    from batchrun.tables.table_options import WriteOptions

__all__ = ["FrameSource", "to_frame"]

SLICE_ROWS: Final = 1024

_DTYPES: Final[Mapping[ColumnKind, str]] = {"int": "Int64", "float": "Float64", "bool": "boolean"}
_ADDED: Final[Mapping[type, ColumnKind]] = {int: "int", float: "float", bool: "bool"}


@dataclass(frozen=True, slots=True)
class FrameSource:
    """A pandas frame. Missing values (NaN, NaT, NA) are read as None. The index is not a column.

    Attributes:
        frame: the frame, which is never changed.
        columns: the names of its columns as text.
        original: the source that this one was expanded from, which gives the fingerprint; None for the user's frame.
    """

    frame: pd.DataFrame
    columns: tuple[str, ...]
    original: FrameSource | None = None

    @classmethod
    def open(cls, frame: pd.DataFrame) -> FrameSource:
        """Return the source after checking names and size.

        Raises:
            InputError: a column has no name or that of another, or the frame has no rows.
        """
        columns = [str(column) for column in frame.columns]
        check_columns(columns, "DataFrame")
        if not columns or not len(frame):
            raise InputError("DataFrame: the table has no rows")
        return cls(frame, tuple(columns))

    @property
    def name(self) -> str:
        """Always `DataFrame`."""
        return "DataFrame"

    def rows(self) -> Iterator[Row]:
        """Yield the rows, which are converted one slice at a time."""
        columns = self.columns
        for first in range(0, len(self.frame), SLICE_ROWS):
            part = self.frame.iloc[first : first + SLICE_ROWS]
            cells = [_cells(part.iloc[:, i]) for i in range(len(columns))]
            for row_index, values in enumerate(zip(*cells, strict=True), start=first):
                yield Row(row_index, dict(zip(columns, values, strict=True)))

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of columns and values, which is the same in every process."""
        if self.original is not None:
            return self.original.fingerprint()
        content = hashlib.sha256(json_text(list(self.columns)).encode("utf-8", "surrogatepass"))
        for row in self.rows():
            content.update(json_text(list(row.values.values())).encode("utf-8", "surrogatepass"))
        return content.hexdigest()


def _cells(column: pd.Series[Any]) -> list[Value]:
    values = [plain(value) for value in column.tolist()]
    missing = column.isna()
    if missing.any():
        return [None if absent else value for value, absent in zip(values, missing.tolist(), strict=True)]
    return values


def to_frame(source: Source, cells: Iterator[Cells], options: WriteOptions) -> pd.DataFrame:
    """Return input and outcomes side by side in one frame.

    A frame as input keeps its dtypes and its index. Other inputs become `object` columns of text, or `Int64`, `Float64`
    and `boolean` columns if every value is such a value or missing. Added columns of text are `object` with None for
    missing values; added numbers are `Int64` and `Float64`.

    Args:
        source: the input.
        cells: one mapping for each row of `source`, in order, with the keys of `options.keys`.
        options: prefix and extra columns.

    Raises:
        InputError: an added column has the name of a column of the input.
        ValueError: `cells` and `source` have different numbers of rows.
        KeyError: a mapping lacks a key.
    """
    import pandas as pd

    check_added_columns(options, source.columns, source.name)
    keys = options.keys
    added: dict[str, list[Any]] = {key: [] for key in keys}
    input_cells: dict[str, list[Value]] = {column: [] for column in source.columns}
    is_frame = isinstance(source, FrameSource)
    for row, outcome in zip(source.rows(), cells, strict=True):
        for key, values in added.items():
            values.append(outcome[key])
        if not is_frame:
            for column, value in row.values.items():
                input_cells[column].append(value)
    if isinstance(source, FrameSource):
        base = source.frame.set_axis(list(source.columns), axis="columns")
    else:
        base = pd.DataFrame({column: _series(values, kind_of(values)) for column, values in input_cells.items()})
    columns = {
        options.prefix + key: _series(values, _ADDED.get(keys[key], "text")).set_axis(base.index)
        for key, values in added.items()
    }
    return pd.concat([base, pd.DataFrame(columns, index=base.index)], axis="columns")


def _series(values: list[Any], kind: ColumnKind) -> pd.Series[Any]:
    import pandas as pd

    if kind == "float":
        # pandas makes an object column of integers and floats.
        values = [None if value is None else float(value) for value in values]
    return pd.Series(values, dtype=_DTYPES.get(kind, "object"))
