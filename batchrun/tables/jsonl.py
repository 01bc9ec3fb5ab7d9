"""Reading JSON: one object on each line, or one after the other, or in one array."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from batchrun.errors import InputError
from batchrun.records import Row, Value
from batchrun.tables.column_names import check_columns
from batchrun.tables.files import OfTextFile, TextFile

__all__ = ["JsonlSource", "json_objects"]

JSON_SPACE: Final = " \t\r\n"
"""The white space of JSON (RFC 8259, section 2)."""


@dataclass(frozen=True, slots=True)
class JsonlSource(OfTextFile):
    """A table of JSON objects. Nested values stay dict and list. Blank lines are skipped.

    The content decides how the objects are arranged, whatever the extension is: one on each line, one after the other
    over several lines, or in one array.

    The columns are the keys of all rows in the order of their first use, found in one pass when the source is opened. A
    row without a key has None in that column.

    Attributes:
        file: the text file.
        is_document: the objects are not one on each line, so that the text is read as a whole.
        columns: the keys.
    """

    file: TextFile
    is_document: bool
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
        is_document = _is_document(file)
        for _, _, cells in _objects(file, is_document):
            rows += 1
            if not cells.keys() <= columns.keys():
                columns.update(dict.fromkeys(cells))
        if not rows and not is_document:
            raise InputError(f"{file.name}: has no rows; write one JSON object on each line")
        if not columns and rows:
            raise InputError(f'{file.name}: no row has a key; write rows such as {{"question": "..."}}')
        check_columns(list(columns), file.name)
        return cls(file, is_document, tuple(columns))

    def rows(self) -> Iterator[Row]:
        """Yield the rows, streamed from the file."""
        columns = self.columns
        for row_index, (line, _, cells) in enumerate(self.objects()):
            yield Row(row_index, {column: cells.get(column) for column in columns}, line)

    def objects(self) -> Iterator[tuple[int, str, dict[str, Value]]]:
        """Yield for each row its physical line (counted from 1), the object's text, on one line, and the object."""
        known = frozenset(self.columns)
        for line, text, cells in _objects(self.file, self.is_document):
            if not cells.keys() <= known:
                raise InputError(f"{self.name}, line {line}: the row has a new key; the file changed while it was read")
            yield line, text, cells


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


_SPACE: Final = re.compile(f"[{JSON_SPACE}]*")
_decoder: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
_lenient: Final = json.JSONDecoder(object_pairs_hook=_object)


def json_objects(file: TextFile) -> Iterator[tuple[int, dict[str, Value]]]:
    """Yield the physical line (counted from 1) and the object of each row. `NaN` and `Infinity` become floats.

    Raises:
        InputError: as `JsonlSource.open`.
    """
    found = False
    for line, _, cells in _objects(file, _is_document(file), _lenient):
        found = True
        yield line, cells
    if not found:
        raise InputError(f"{file.name}: has no rows; write one JSON object on each line")


def _is_document(file: TextFile) -> bool:
    """Return whether the text begins with an array, or with an object that does not end on its line."""
    for block in file.blocks(newline="\n"):
        for raw in block:
            text = raw.strip(JSON_SPACE)
            if text.startswith("["):
                return True
            if text:
                try:
                    json.loads(text)
                except json.JSONDecodeError as exc:
                    return text.startswith("{") and exc.pos >= len(text)
                except (RecursionError, ValueError):
                    pass
                return False
    return False


def _objects(
    file: TextFile, is_document: bool, decoder: json.JSONDecoder = _decoder
) -> Iterator[tuple[int, str, dict[str, Value]]]:
    """Yield physical line (counted from 1), text and object of each row."""
    if is_document:
        yield from _document(file, decoder)
        return
    line = 0
    for block in file.blocks(newline="\n"):
        for raw in block:
            line += 1
            text = raw.strip(JSON_SPACE)
            if text:
                where = f"{file.name}, line {line}"
                try:
                    value = decoder.decode(text)
                except (ValueError, RecursionError) as exc:
                    column = getattr(exc, "pos", 0) + 1 + len(raw) - len(raw.lstrip(JSON_SPACE))
                    raise _fault(exc, where, column, "each line must be one complete JSON object") from exc
                yield line, text, _checked(value, where)


def _document(file: TextFile, decoder: json.JSONDecoder) -> Iterator[tuple[int, str, dict[str, Value]]]:
    """Yield the objects of an array, or of a sequence of objects. The whole text is in memory."""
    text = "".join(line for block in file.blocks(newline="\n") for line in block)
    position = _skip(text, 0)
    is_array = text[position] == "["
    position = _skip(text, position + is_array)
    line, counted = 1, 0
    while position < len(text) and not (is_array and text[position] == "]"):
        line, counted = line + text.count("\n", counted, position), position
        where = f"{file.name}, line {line}"
        try:
            value, end = decoder.raw_decode(text, position)
        except json.JSONDecodeError as exc:
            raise _fault(exc, f"{file.name}, line {exc.lineno}", exc.colno, "each object must be complete") from exc
        except (ValueError, RecursionError) as exc:
            raise _fault(exc, where, None, "") from exc
        # A line break inside an object is white space: in a string it would be an escape.
        flat = text[position:end].replace("\r", " ").replace("\n", " ")
        yield line, flat, _checked(value, where)
        position = _skip(text, end)
        if is_array:
            position = _after_item(text, position, file.name)
    if is_array and not text[position : position + 1]:
        raise InputError(f"{file.name}: the JSON array is not closed; the file is cut off")
    if is_array and (after := _skip(text, position + 1)) < len(text):
        line += text.count("\n", counted, after)
        raise InputError(f"{file.name}, line {line}: there is text after the end of the JSON array; remove it")


def _after_item(text: str, position: int, name: str) -> int:
    """Return where the next item of an array begins, or its end."""
    if text[position : position + 1] == ",":
        following = _skip(text, position + 1)
        if text[following : following + 1] != "]":
            return following
    elif text[position : position + 1] in ("]", ""):
        return position
    line = text.count("\n", 0, position) + 1
    raise InputError(f"{name}, line {line}: not valid JSON (expected a comma and an object, or the end of the array)")


def _skip(text: str, position: int) -> int:
    """Return the position of the next character that is not white space."""
    found = _SPACE.match(text, position)
    assert found is not None
    return found.end()


def _fault(exc: ValueError | RecursionError, where: str, column: int | None, advice: str) -> InputError:
    """Return the error for text that the JSON decoder refuses.

    Args:
        where: file and line.
        column: column of a syntax error, from 1.
    """
    if isinstance(exc, json.JSONDecodeError):
        return InputError(f"{where}, column {column}: not valid JSON ({exc.msg}); {advice}")
    if isinstance(exc, RecursionError):
        return InputError(f"{where}: the object is nested too deeply")
    # Either `_NotJson`, or Python refuses an integer of more than 4,300 digits.
    reason = exc if isinstance(exc, _NotJson) else "a number with too many digits; write it as text"
    return InputError(f"{where}: {reason}")


def _checked(value: Any, where: str) -> dict[str, Value]:
    if not isinstance(value, dict):
        kind = {list: "a list", str: "a string", type(None): "null", bool: "a boolean"}.get(type(value), "a number")
        raise InputError(f'{where}: expected a JSON object such as {{"question": "..."}}, found {kind}')
    return value
