"""JSON Lines in: one object on each line."""

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
"""All the white space that JSON knows (RFC 8259, section 2)."""


@dataclass(frozen=True, slots=True)
class JsonlSource:
    """A table of JSON objects. Nested values stay dict and list; blank lines are no rows.

    The columns are the keys of all rows, in order of first sight, found by one pass when the source is
    opened; a row without a key has None there.

    Attributes:
        file: where the text is.
        columns: the keys.
    """

    file: TextFile
    columns: tuple[str, ...]

    @classmethod
    def open(cls, file: TextFile) -> JsonlSource:
        """Reads the whole file once for its keys.

        Raises:
            InputError: a line that is no JSON object, a key twice in one, no keys, no rows, or a fault of the file.
        """
        columns: dict[str, None] = {}
        rows = 0
        for _, _, cells in _objects(file):
            rows += 1
            if not cells.keys() <= columns.keys():
                columns.update(dict.fromkeys(cells))
        if not rows:
            raise InputError(f"{file.name}: no rows; write one JSON object on each line")
        if not columns:
            raise InputError(f"{file.name}: no row has a key; a column of prompts is needed")
        check_columns(list(columns), file.name)
        return cls(file, tuple(columns))

    @property
    def name(self) -> str:
        """The file as the user gave it."""
        return self.file.name

    @property
    def path(self) -> Path:
        """Where the text is read from."""
        return self.file.path

    def rows(self) -> Iterator[Row]:
        """The rows from the first on, streamed."""
        columns = self.columns
        for row_index, (line, _, cells) in enumerate(self.objects()):
            yield Row(row_index, {column: cells.get(column) for column in columns}, line)

    def objects(self) -> Iterator[tuple[int, str, dict[str, Value]]]:
        """Of each row the physical line (from 1), the object's text as it is in the file, and the object."""
        known = frozenset(self.columns)
        for line, text, cells in _objects(self.file):
            if not cells.keys() <= known:
                raise InputError(f"{self.name}, line {line}: a new key; the file changed while it was read")
            yield line, text, cells

    def fingerprint(self) -> str:
        """SHA-256 (hex) of name, size and content."""
        return digest(self.file.path, self.file.name)


class _NotJson(ValueError):
    """What Python's reader accepts and JSON does not."""


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
    """Physical line (from 1), text, and object of each row."""
    line = 0
    for block in file.blocks(newline="\n"):
        for raw in block:
            line += 1
            text = raw.strip(JSON_SPACE)
            if text:
                yield line, text, _parse(raw, text, f"{file.name}, line {line}")


def _parse(raw: str, text: str, where: str) -> dict[str, Value]:
    try:
        found: Any = _decoder.decode(text)
    except json.JSONDecodeError as error:
        column = error.pos + 1 + len(raw) - len(raw.lstrip(JSON_SPACE))
        advice = (
            "this looks like one JSON array; write its objects one to a line (jq -c '.[]')"
            if text.startswith("[")
            else "each line must be one whole JSON object"
        )
        raise InputError(f"{where}, column {column}: not JSON ({error.msg}); {advice}") from error
    except RecursionError as error:
        raise InputError(f"{where}: nested too deeply") from error
    except ValueError as error:
        # Ours, or Python's refusal of an integer of more than 4,300 digits.
        reason = error if isinstance(error, _NotJson) else "a number with too many digits; write it as text"
        raise InputError(f"{where}: {reason}") from error
    if not isinstance(found, dict):
        kind = {list: "a list", str: "a string", type(None): "null", bool: "a boolean"}.get(type(found), "a number")
        raise InputError(f'{where}: {kind}, where a JSON object is expected, such as {{"question": "..."}}')
    return found
