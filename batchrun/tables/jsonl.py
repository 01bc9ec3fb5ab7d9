"""Reading JSON Lines: one object on each line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from batchrun.errors import InputError
from batchrun.records import Row, Value
from batchrun.tables.files import TextFile, digest
from batchrun.tables.text import check_columns

__all__ = ["JsonlSource"]

JSON_SPACE: Final = " \t\r\n"
"""The white space of JSON (RFC 8259, section 2)."""


@dataclass(frozen=True, slots=True)
class JsonlSource:
    """A table of JSON objects. Nested values stay dict and list. Blank lines are skipped.

    The columns are the keys of all rows in the order of their first use, found in one pass when the source is opened. A
    row without a key has None in that column.

    Attributes:
        file: the text file.
        columns: the keys.
    """

    file: TextFile
    columns: tuple[str, ...]

    @classmethod
    def open(cls, file: TextFile) -> JsonlSource:
        """Return the source after reading the whole file once for its keys.

        Raises:
            InputError: a line is not a JSON object, an object has a key twice, there are no keys or no rows, or the
                file cannot be read.
        """
        columns: dict[str, None] = {}
        rows = 0
        for _, _, cells in _objects(file):
            rows += 1
            if not cells.keys() <= columns.keys():
                columns.update(dict.fromkeys(cells))
        if not rows:
            raise InputError(f"{file.name}: has no rows; write one JSON object on each line")
        if not columns:
            raise InputError(f'{file.name}: no row has a key; write rows such as {{"question": "..."}}')
        check_columns(list(columns), file.name)
        return cls(file, tuple(columns))

    @property
    def name(self) -> str:
        """The name that the user gave."""
        return self.file.name

    @property
    def path(self) -> Path:
        """The path of the file."""
        return self.file.path

    def rows(self) -> Iterator[Row]:
        """Yield the rows, streamed from the file."""
        columns = self.columns
        for row_index, (line, _, cells) in enumerate(self.objects()):
            yield Row(row_index, {column: cells.get(column) for column in columns}, line)

    def objects(self) -> Iterator[tuple[int, str, dict[str, Value]]]:
        """Yield for each row its physical line (counted from 1), the text of the object in the file, and the object."""
        known = frozenset(self.columns)
        for line, text, cells in _objects(self.file):
            if not cells.keys() <= known:
                raise InputError(f"{self.name}, line {line}: the row has a new key; the file changed while it was read")
            yield line, text, cells

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the file's name, size and content."""
        return digest(self.file.path, self.file.name)


class _NotJson(ValueError):
    """The text is accepted by Python's JSON reader, but is not valid JSON."""


def _object(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    cells = dict(pairs)
    if len(cells) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _NotJson(f"the key {next(key for key in cells if keys.count(key) > 1)!r} occurs twice in one object")
    return cells


def _constant(name: str) -> NoReturn:
    raise _NotJson(f"{name} is not JSON; write null")


_decoder: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _objects(file: TextFile) -> Iterator[tuple[int, str, dict[str, Value]]]:
    """Yield physical line (counted from 1), text and object of each row."""
    line = 0
    for block in file.blocks(newline="\n"):
        for raw in block:
            line += 1
            text = raw.strip(JSON_SPACE)
            if text:
                yield line, text, _parse(raw, text, f"{file.name}, line {line}")


def _parse(raw: str, text: str, where: str) -> dict[str, Value]:
    try:
        value: Any = _decoder.decode(text)
    except json.JSONDecodeError as exc:
        column = exc.pos + 1 + len(raw) - len(raw.lstrip(JSON_SPACE))
        advice = (
            "this looks like one JSON array; write one object per line (jq -c '.[]')"
            if text.startswith("[")
            else "each line must be one complete JSON object"
        )
        raise InputError(f"{where}, column {column}: not valid JSON ({exc.msg}); {advice}") from exc
    except RecursionError as exc:
        raise InputError(f"{where}: the object is nested too deeply") from exc
    except ValueError as exc:
        # Either `_NotJson`, or Python refuses an integer of more than 4,300 digits.
        reason = exc if isinstance(exc, _NotJson) else "a number with too many digits; write it as text"
        raise InputError(f"{where}: {reason}") from exc
    if not isinstance(value, dict):
        kind = {list: "a list", str: "a string", type(None): "null", bool: "a boolean"}.get(type(value), "a number")
        raise InputError(f'{where}: expected a JSON object such as {{"question": "..."}}, found {kind}')
    return value
