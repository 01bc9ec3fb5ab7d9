"""Records of delimited text: the stdlib's csv reader with what it leaves out.

The stdlib reader is kept because it alone tells the physical line of each row, gives every cell as the text
that the user wrote, and streams. Arrow's reader, its columns turned into Python rows, took 1.8 µs of CPU for a
row of three short cells where this takes 2.7; beside a request for each row neither counts. What is added:
strict quoting with the line on which an unclosed quote opened, detection of the delimiter, and cells longer
than csv's 131,072 characters.
"""

from __future__ import annotations

import csv
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Final

from batchrun.errors import InputError
from batchrun.tables.files import TextFile

__all__ = ["CANDIDATES", "NO_DELIMITER", "Record", "find_delimiter", "records"]

CANDIDATES: Final = (",", ";", "\t", "|")

NO_DELIMITER: Final = "\0"
"""Delimiter of a table of one column. It cannot occur in a cell, since `TextFile.blocks` refuses NUL."""

Record = tuple[int, list[str]]
"""Physical line (from 1) on which a record starts, and its cells."""

_MAX_CELL_CHARS: Final = 1 << 26
_SAMPLE_CHARS: Final = 1 << 16

# csv.field_size_limit is one setting for the whole process. It is raised only while a block is parsed and
# then put back, so a host application keeps its own; without the lock, two threads that overlap could
# put back each other's value.
_limit_lock = threading.Lock()


@contextmanager
def _long_cells() -> Iterator[None]:
    with _limit_lock:
        before = csv.field_size_limit(_MAX_CELL_CHARS)
        try:
            yield
        finally:
            csv.field_size_limit(before)


class _Lines:
    """The lines of a file for csv.reader, which counts those that it was handed in `delivered`."""

    def __init__(self, file: TextFile) -> None:
        self._file = file
        self.delivered = 0

    def blocks(self) -> Iterator[list[str]]:
        for block in self._file.blocks(newline=""):
            self.delivered += len(block)
            yield block


def records(file: TextFile, delimiter: str, width: int | None) -> Iterator[list[Record]]:
    """The records of a file, blank lines skipped, in lists of about one block of the file.

    Args:
        file: where the text is.
        delimiter: one character.
        width: cells that each record must have; None for any number, and then each list is one record long, so
            that the first can be had before a fault behind them shows.

    Raises:
        InputError: a ragged row, a quote in the wrong place, or any fault of the file.
    """
    lines = _Lines(file)
    reader = csv.reader(chain.from_iterable(lines.blocks()), delimiter=delimiter, strict=True)
    start = 1
    whole = False
    while not whole:
        batch: list[Record] = []
        with _long_cells():
            try:
                for cells in reader:
                    if len(cells) == width or (cells and width is None):
                        batch.append((start, cells))
                    elif cells:
                        raise _ragged(file, delimiter, start, len(cells), width)
                    start = reader.line_num + 1
                    if start > lines.delivered or width is None:
                        break
                else:
                    whole = True
            except csv.Error as error:
                raise _misquoted(str(error), file, delimiter, start, reader.line_num) from error
        yield batch


def find_delimiter(file: TextFile) -> str:
    """The delimiter with which the header and the first rows have the same number of cells.

    Quoted delimiters do not count. The header decides what is possible: if it holds none of the candidates,
    the table has one column and every delimiter in its rows is text.

    Raises:
        InputError: a fault of the file.
    """
    lines: list[str] = []
    size = 0
    cut = False
    for block in file.blocks(newline=""):
        for line in block:
            lines.append(line)
            size += len(line)
            if size >= _SAMPLE_CHARS:
                cut = True
                break
        if cut:
            break
    best, best_score = NO_DELIMITER, (0.0, 0)
    for candidate in CANDIDATES:
        score = _agreement(lines, candidate, cut)
        if score > best_score:
            best, best_score = candidate, score
    return best


def _agreement(lines: list[str], delimiter: str, cut: bool) -> tuple[float, int]:
    """Share of the sampled rows that are as wide as the header, and that width; zeros for a header of one cell."""
    with _long_cells():
        try:
            sample = [cells for cells in csv.reader(lines, delimiter=delimiter) if cells]
        except csv.Error:
            return 0.0, 0
    if cut and len(sample) > 1:
        sample.pop()
    if not sample or len(sample[0]) == 1:
        return 0.0, 0
    width = len(sample[0])
    return sum(len(cells) == width for cells in sample) / len(sample), width


def _ragged(file: TextFile, delimiter: str, line: int, found: int, width: int | None) -> InputError:
    word = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}.get(delimiter, repr(delimiter))
    cause = (
        f"put quotes around a cell that holds a {word}"
        if width is not None and found > width
        else f"a cell or a {word} is missing, or a cell with a line break has no quotes around it"
    )
    return InputError(f"{file.name}, line {line}: expected {width} cells as in the header, found {found}; {cause}")


def _misquoted(reason: str, file: TextFile, delimiter: str, start: int, line: int) -> InputError:
    opened = _last_quote(file, delimiter, start, line)
    if "end of data" in reason:
        return InputError(
            f"{file.name}, line {opened}: the quote that opens here is never closed;"
            ' close it, or put the cell in quotes and write each quote inside it as ""'
        )
    if "field limit" in reason:
        return InputError(
            f"{file.name}, line {opened}: a cell of more than {_MAX_CELL_CHARS:,} characters;"
            " most likely a quote that is never closed"
        )
    since = "" if opened == line else f" (the quoted cell began on line {opened})"
    return InputError(
        f'{file.name}, line {line}: text after a closing quote{since}; inside a quoted cell write each quote as ""'
    )


def _last_quote(file: TextFile, delimiter: str, start: int, stop: int) -> int:
    """The physical line on which the last quoted cell opens, in the record of lines `start` to `stop`."""
    opened, inside = start, False
    text = chain.from_iterable(file.blocks(newline=""))
    for number, line in enumerate(text, start=1):
        if number > stop:
            break
        if number < start:
            continue
        position = 0
        while position < len(line):
            if inside:
                quote = line.find('"', position)
                if quote < 0:
                    break
                position = quote + 2
                inside = line[quote + 1 : position] == '"'
                if not inside and line[quote + 1 : position] not in (delimiter, "\r", "\n", ""):
                    return opened
            elif line[position] == '"':
                opened, inside = number, True
                position += 1
            else:
                following = line.find(delimiter, position)
                if following < 0:
                    break
                position = following + 1
    return opened
