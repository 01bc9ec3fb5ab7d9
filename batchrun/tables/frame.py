"""Reading and writing pandas frames."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from batchrun.errors import InputError
from batchrun.records import Cells, Row, Value
from batchrun.tables.column_names import check_columns
from batchrun.tables.table_options import check_added_columns
from batchrun.tables.values import AddedKind, added_kind, json_text, kind_of, plain

if TYPE_CHECKING:
    import pandas as pd

    from batchrun.tables.source import Source
    from batchrun.tables.table_options import WriteOptions

__all__ = ["FrameSource", "column_of", "content_fingerprint", "to_frame"]

SLICE_ROWS: Final = 1024

_DTYPES: Final[Mapping[AddedKind, str]] = {
    "int": "Int64",
    "float": "Float64",
    "bool": "boolean",
    "time": "datetime64[us, UTC]",
}


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
            InputError: a column has no name or that of another, or there are no columns.
        """
        columns = [str(column) for column in frame.columns]
        check_columns(columns, "data")
        if not columns:
            raise InputError("data: the table has no columns")
        return cls(frame, tuple(columns))

    @property
    def name(self) -> str:
        """Always `data`, the parameter of the Python functions."""
        return "data"

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
        return content_fingerprint(self)


def content_fingerprint(source: Source) -> str:
    """Return the SHA-256 (hex) of a table's columns and values."""
    content = hashlib.sha256(json_text(list(source.columns)).encode("utf-8", "surrogatepass"))
    for row in source.rows():
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

    A frame as input keeps its labels, its dtypes and its index. The columns of other inputs become `Int64`, `Float64`,
    `boolean` or `str` if every value is such a value or missing, otherwise `object`; the index is the row's position in
    the input, from 0. Added columns are `str`, `Int64`, `Float64` or `boolean`, and moments are `datetime64[us, UTC]`;
    missing values are NaN in `str`, NaT in moments and NA elsewhere. In a table that was expanded, the rows of one
    input row share its index value.

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
    added: dict[str, list[Any]] = {key: [] for key in options.keys}
    input_cells: dict[str, list[Value]] = {column: [] for column in source.columns}
    is_frame = isinstance(source, FrameSource)
    for row, outcome in zip(source.rows(), cells, strict=True):
        for key, values in added.items():
            values.append(outcome[key])
        if not is_frame:
            for column, value in row.values.items():
                input_cells[column].append(value)
    if isinstance(source, FrameSource):
        base = _labelled(source)
    else:
        base = pd.DataFrame({column: column_of(values, kind_of(values)) for column, values in input_cells.items()})
        base.index = _positions(source, len(base))
    columns = {options.prefix + key: column_of(added[key], added_kind(kind)) for key, kind in options.keys.items()}
    # Labels that are not unique cannot be aligned, but equal indexes are joined by position.
    frame = pd.concat([base, pd.DataFrame(columns).set_axis(base.index)], axis="columns")
    frame.attrs = dict(base.attrs)
    return frame


def _labelled(source: FrameSource) -> pd.DataFrame:
    """Return the frame with its own labels; labels of several levels, to which no column can be added, as text."""
    if source.frame.columns.nlevels == 1:
        return source.frame
    return source.frame.set_axis(list(source.columns), axis="columns")


def _positions(source: Source, rows: int) -> pd.Index[Any]:
    """Return the position of each row's input row."""
    import numpy as np
    import pandas as pd

    times = len(getattr(source, "combinations", (None,)))
    return pd.RangeIndex(rows) if times == 1 else pd.Index(np.repeat(np.arange(rows // times), times))


def column_of(values: list[Any], kind: AddedKind) -> pd.Series[Any]:
    """Return the values as a column of their kind. Text that UTF-8 cannot encode, and `json`, become `object`."""
    import numpy as np
    import pandas as pd

    if kind == "text":
        try:
            # `str` by its name would mean another type under an option of pandas.
            return pd.Series(values, dtype=pd.StringDtype(na_value=np.nan))
        except UnicodeEncodeError:
            return pd.Series(values, dtype="object")
    if kind == "float":
        # pandas makes an object column of integers and floats.
        values = [None if value is None else float(value) for value in values]
    elif kind == "time":
        values = [None if value is None else datetime.fromisoformat(value) for value in values]
    return pd.Series(values, dtype=_DTYPES.get(kind, "object"))
