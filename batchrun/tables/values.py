"""Conversion of cells to plain Python and JSON text, and the type that fits all cells of a column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from batchrun.records import Value

if TYPE_CHECKING:
    pass

import json
import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from typing import Literal, TypeAlias

__all__ = ["AddedKind", "ColumnKind", "ErrorCell", "KindOf", "added_kind", "json_text", "kind_of", "plain"]

ColumnKind: TypeAlias = Literal["int", "float", "bool", "text", "json"]
"""The type in which a column of Python values can be stored without loss. `json`: only as JSON text."""

AddedKind: TypeAlias = Literal["int", "float", "bool", "text", "json", "time"]
"""The type of a column that batchrun adds. `time`: the cells are moments as ISO 8601 text."""

_ADDED: Final[Mapping[type, AddedKind]] = {str: "text", int: "int", float: "float", bool: "bool", datetime: "time"}

_ATOMS: Final = frozenset({str, int, float, bool, type(None)})
_EXACT_IN_FLOAT: Final = 2**53
_INT64: Final = 2**63


def plain(value: Any) -> Value:
    """Return a value from Arrow, numpy or pandas as str, int, float, bool, None, list or dict.

    Dates, times and timestamps become ISO 8601 text, and a missing timestamp becomes None. Bytes are decoded as UTF-8;
    a byte that is not UTF-8 becomes an escape such as `\\xff`. Decimals and all other values become the text that `str`
    returns.
    """
    if type(value) in _ATOMS:
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, date | datetime | time):
        # pandas.NaT is a datetime, and the only one that is not equal to itself.
        return value.isoformat() if value == value else None
    if hasattr(value, "tolist"):
        return plain(value.tolist())  # numpy scalars and arrays
    if type(value).__name__ == "NAType":
        return None  # pandas.NA inside a list; pandas is not imported for this
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)  # subclasses, such as members of an IntEnum
    return str(value)


def json_text(value: Value) -> str:
    """Return compact JSON. NaN and infinities, which JSON does not have, become null."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"))


def _finite(value: Value) -> Value:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value


@dataclass(slots=True)
class KindOf:
    """The kind of a column, found from its values one by one.

    Mutable state: both attributes.

    Attributes:
        types: the types of the values so far, without None.
        largest: the largest absolute value of an int so far.
    """

    types: set[type]
    largest: int = 0

    def add(self, value: Value) -> None:
        """Take the next value of the column into account."""
        if value is None:
            return
        self.types.add(str if isinstance(value, str) else type(value))
        if type(value) is int:
            # int64 also has -2**63. A column with it is stored as text, which loses nothing.
            self.largest = max(self.largest, abs(value))

    @property
    def kind(self) -> ColumnKind:
        """The kind of the values so far: a number only if no digit is lost, and text if there are no values."""
        types = self.types
        if types <= {str}:
            return "text"
        if types == {bool}:
            return "bool"
        if types == {int} and self.largest < _INT64:
            return "int"
        if types == {float} or (types == {int, float} and self.largest <= _EXACT_IN_FLOAT):
            return "float"
        return "json"


def kind_of(values: Iterable[Value]) -> ColumnKind:
    """Return the kind that fits all `values`."""
    found = KindOf(set())
    for value in values:
        found.add(value)
    return found.kind


def added_kind(cells: type) -> AddedKind:
    """Return the kind of a column that batchrun adds, by the type of its cells (`WriteOptions.keys`)."""
    return _ADDED.get(cells, "json")


class ErrorCell(str):
    """The text of a cell with an error, such as `#N/A`. A prompt that uses it is not sent."""

    __slots__ = ()
