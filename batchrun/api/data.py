"""The tables that a call from Python takes, and the table of answers that it returns."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from batchrun.errors import InputError
from batchrun.records import Cells
from batchrun.tables import Source, WriteOptions, to_frame
from batchrun.tables.frame import column_of
from batchrun.tables.values import kind_of
from batchrun.wording import shortened

if TYPE_CHECKING:
    import pandas
    import pyarrow

__all__ = ["ArrowTable", "Given", "SeriesOf", "TableT", "is_frame", "read_data"]

EXPECTED = (
    "expected a pandas, polars or Arrow table, a Series, a list of texts, a list of dicts, "
    "or the path of a table or of a job file"
)


class ArrowTable(Protocol):
    """A table of polars or Arrow, as type checkers see it: answers come back as the same type."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return the table as Arrow's C stream."""


TableT = TypeVar("TableT", bound=ArrowTable)
TableT_co = TypeVar("TableT_co", covariant=True)


class SeriesOf(Protocol[TableT_co]):
    """A Series of pandas or polars, as type checkers see it: answers come back as a table of the same library."""

    def to_frame(self) -> TableT_co:
        """Return the Series as a table of one column."""
        ...


if TYPE_CHECKING:
    FrameData: TypeAlias = pandas.DataFrame | Sequence[str] | Sequence[Mapping[str, Any]] | str | Path
    """Data whose answers come back as a pandas frame."""
    Data: TypeAlias = FrameData | SeriesOf[Any] | ArrowTable


@dataclass(frozen=True, slots=True)
class Given:
    """The `data` of a call, in a form that a batch reads.

    Attributes:
        table: a path, or a table in memory.
        to_answers: joins the input with its outcomes (see `tables.to_frame`) into the table that the call returns.
    """

    table: str | Path | pandas.DataFrame | pyarrow.Table
    to_answers: Callable[[Source, Iterator[Cells], WriteOptions], Any] = to_frame

    @property
    def is_path(self) -> bool:
        """Whether the table is a file."""
        return isinstance(self.table, (str, Path))


def read_data(data: object) -> Given:
    """Return the table in `data`.

    A Series becomes a column of its name, or `prompt` if it has none; a list of texts becomes the column `prompt`. The
    answers come back as a polars frame for polars, as an Arrow table for Arrow, and as a pandas frame for all else.

    Raises:
        InputError: `data` is not a table; the message states what it is, and what is expected.
    """
    if isinstance(data, str):
        return Given(_checked_path(data))
    if isinstance(data, os.PathLike):
        return Given(Path(data))
    if isinstance(data, list | tuple):
        return Given(_frame_of_list(data))
    if _is(data, "pandas", "DataFrame"):
        return Given(data)
    if _is(data, "pandas", "Series"):
        return Given(_named(data).to_frame())
    if _is(data, "polars", "DataFrame", "Series"):
        return _of_polars(data if _is(data, "polars", "DataFrame") else _named(data).to_frame())
    if _is(data, "pyarrow", "Table", "RecordBatch"):
        from batchrun.tables.arrow import to_arrow

        table = data if _is(data, "pyarrow", "Table") else sys.modules["pyarrow"].Table.from_batches([data])
        return Given(table, to_arrow)
    raise InputError(f"data: {EXPECTED}, got {_described(data)}{_hint(data)}")


def is_frame(data: object) -> bool:
    """Return whether `data` is a pandas frame."""
    return _is(data, "pandas", "DataFrame")


def _is(data: object, module: str, *names: str) -> bool:
    """Return whether `data` is of one of a library's types. A library that is not imported has no objects."""
    library = sys.modules.get(module)
    return isinstance(data, tuple(kind for name in names if (kind := getattr(library, name, None)) is not None))


def _named(series: Any) -> Any:
    return series.rename("prompt") if series.name in (None, "") else series


def _checked_path(text: str) -> str:
    """Return a path. A text that is evidently a prompt is refused, because no table is named like it."""
    if "\n" in text or (" " in text and not Path(text).suffix and not os.path.lexists(text)):
        raise InputError(
            f"data: a text is the path of a table, and there is no file {shortened(text)}; "
            "prompts are given as a list of texts"
        )
    return text


def _frame_of_list(rows: Sequence[object]) -> pandas.DataFrame:
    """Return the frame of a list of texts or a list of dicts."""
    import pandas as pd

    if not rows:
        raise InputError("data: the list is empty; expected at least one text or dict")
    kind, name = (str, "text") if isinstance(rows[0], str) else (Mapping, "dict")
    for number, row in enumerate(rows):
        if not isinstance(row, kind):
            raise InputError(
                f"data: {EXPECTED}, got a {type(rows).__name__} with {_described(rows[0])}"
                if number == 0
                else f"data[{number}]: expected a {name} as in data[0], got {_described(row)}"
            )
    cells = _columns(rows) if kind is Mapping else {"prompt": list(rows)}
    columns = {name: column_of(values, kind_of(values)) for name, values in cells.items()}
    frame = pd.DataFrame(columns, index=pd.RangeIndex(len(rows)))
    try:
        return frame.infer_objects()
    except UnicodeEncodeError:  # half of a surrogate pair, which pandas keeps only in a column of objects
        return frame


def _columns(rows: Sequence[Any]) -> dict[str, list[Any]]:
    """Return the cells by column, in the order in which the keys occur; a missing key is a missing cell."""
    names: dict[str, None] = {}
    for number, row in enumerate(rows):
        for name in row:
            if not isinstance(name, str):
                raise InputError(f"data[{number}]: the key {shortened(name)} is not a text, which names a column")
        names |= dict.fromkeys(row)
    return {name: [row.get(name) for row in rows] for name in names}


def _of_polars(frame: Any) -> Given:
    """Return a polars frame as an Arrow table; its answers are joined with the frame itself, which keeps its types."""
    polars: Any = sys.modules["polars"]
    for name, kind in frame.schema.items():
        if kind == polars.Object:
            raise InputError(f"data: the column {name!r} holds Python objects, which polars cannot convert; cast it")

    def to_answers(source: Source, cells: Iterator[Cells], options: WriteOptions) -> Any:
        from batchrun.tables.arrow import to_arrow

        joined = to_arrow(source, cells, options)
        added = polars.from_arrow(joined.select(range(frame.width, joined.num_columns)))
        times = joined.num_rows // max(frame.height, 1)  # a frame may have no rows
        rows = frame if times <= 1 else frame[[row for row in range(frame.height) for _ in range(times)]]
        return polars.concat([rows, added], how="horizontal")

    return Given(frame.to_arrow(compat_level=polars.CompatLevel.oldest()), to_answers)


def _described(value: object) -> str:
    if value is None or isinstance(value, int | float | bytes):
        return shortened(value)
    return f"a {type(value).__name__}" if type(value).__module__ == "builtins" else f"a {_type_name(value)}"


def _type_name(value: object) -> str:
    return f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"


def _hint(data: object) -> str:
    """Return what to write instead, for what is nearly a table; otherwise an empty text."""
    if isinstance(data, Mapping):
        return "; pandas.DataFrame(data) makes a table of a dict of columns, [data] a table of one row"
    if _is(data, "polars", "LazyFrame"):
        return "; data.collect() makes a table of it"
    if hasattr(data, "to_frame") and not hasattr(data, "__iter__"):  # `Scores` and comparisons
        return "; data.to_frame() makes a table of it"
    if hasattr(data, "__arrow_c_stream__"):
        return "; pyarrow.table(data) makes a table of it"
    if hasattr(data, "__iter__") and not isinstance(data, bytes | bytearray):
        return "; list(data) makes a list of it"
    return ""
