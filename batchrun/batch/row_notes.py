"""RowNotes: ratings and comments that people gave to rows, in `OUTPUT.notes.csv`.

`batchrun view` writes the file, also while the batch runs. No run and no cleanup changes it: the work of people is not
repeatable.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from batchrun.errors import InputError
from batchrun.records import Row
from batchrun.tables import ReadOptions, open_source
from batchrun.tables.atomic import replacing

__all__ = ["MAX_COMMENT_CHARS", "RATINGS", "Rating", "RowNote", "RowNotes", "answer_hash"]

Rating: TypeAlias = Literal["right", "wrong", ""]
"""A person's verdict on an answer; empty for none."""

RATINGS: Final[tuple[Rating, ...]] = get_args(Rating)

MAX_COMMENT_CHARS: Final = 10_000

_COLUMNS: Final = ("row_index", "row_key", "rating", "comment", "answer_hash")
_NEEDED: Final = _COLUMNS[:4]


def answer_hash(answer: str | None) -> str:
    """Return what identifies an answer in a note: 16 hexadecimal digits of its SHA-256; empty for no answer."""
    return "" if not answer else hashlib.sha256(answer.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class RowNote:
    """A rating, a comment or both.

    Attributes:
        row_index: position of the row in the table, from 0, when the note was written.
        row_key: the row's key in the batch.
        rating: verdict on the answer.
        comment: free text.
        answer_hash: `answer_hash` of the answer that the note is about; empty if unknown, as in a file made by hand.
        others: cells of further columns, which are kept.
    """

    row_index: int
    row_key: str
    rating: Rating = ""
    comment: str = ""
    answer_hash: str = ""
    others: Mapping[str, str] = field(default_factory=dict)

    def is_about(self, answer: str | None) -> bool:
        """Return whether the row still has the answer that the note is about, as far as the file says."""
        return self.answer_hash in ("", answer_hash(answer))


@dataclass(frozen=True, slots=True)
class RowNotes:
    """The notes of a file, in its order.

    Example:
        >>> notes = RowNotes([RowNote(0, "q1", "right"), RowNote(1, "q2", "wrong", "off by one")])
        >>> {position: note.rating for position, note in notes.matched(["q2", "q1", "q3"]).items()}
        {1: 'right', 0: 'wrong'}
    """

    listed: Sequence[RowNote] = ()
    other_columns: Sequence[str] = ()

    @classmethod
    def read(cls, path: Path) -> RowNotes:
        """Read a file of notes; one that does not exist has no notes.

        Raises:
            InputError: the file cannot be read, lacks a column, or has a cell that is not understood.
        """
        if not path.exists():
            return cls()
        source = open_source(str(path), ReadOptions())
        if missing := [column for column in _NEEDED if column not in source.columns]:
            raise InputError(
                f"{path}: has no column {missing[0]!r}; expected the columns {', '.join(_NEEDED)}, as `batchrun view` "
                "writes them"
            )
        others = [column for column in source.columns if column not in _COLUMNS]
        return cls([_note(path, row, others) for row in source.rows()], others)

    def matched(self, keys: Iterable[str]) -> dict[int, RowNote]:
        """Return position → note for the rows of a table.

        A note belongs to the row with its key. If several rows have it, or if the table has only a part of the batch's
        keys (its rows are numbered, or it has no column for the combination), the note belongs to the row at its
        position. A note for which there is no such row is left out; a later note replaces an earlier one.

        Args:
            keys: the rows' keys in the batch; else the cells of the key column; else their positions as text.
        """
        places: dict[str, list[int]] = {note.row_key: [] for note in self.listed}
        key_at: dict[int, str | None] = {note.row_index: None for note in self.listed}
        is_numbered = any(note.row_key != str(note.row_index) for note in self.listed)
        for position, key in enumerate(keys):
            if key in places:
                places[key].append(position)
            if position in key_at:
                key_at[position] = key
            # The rows are numbered, but the batch had keys: the key 1 is not the row at position 1.
            is_numbered = is_numbered and key == str(position)
        found = {}
        for note in self.listed:
            same, at = [] if is_numbered else places[note.row_key], note.row_index
            known = key_at[at]
            if len(same) == 1:
                found[same[0]] = note
            elif at in same or (not same and known is not None and _may_be(note.row_key, known, at)):
                found[at] = note
        return found

    def with_note(self, note: RowNote) -> RowNotes:
        """Return the notes with one row's note replaced; one without rating and comment is removed."""
        place = next(
            (place for place, each in enumerate(self.listed) if each.row_key == note.row_key), len(self.listed)
        )
        listed = [each for each in self.listed if each.row_key != note.row_key]
        if note.rating or note.comment:
            others = self.listed[place].others if place < len(self.listed) else {}
            listed.insert(place, replace(note, others=others))
        return RowNotes(listed, self.other_columns)

    def write(self, path: Path) -> None:
        """Write the file, atomically.

        Raises:
            OutputError: it cannot be written.
        """
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*_COLUMNS, *self.other_columns])
        for note in self.listed:
            cells = (note.row_index, note.row_key, note.rating, note.comment, note.answer_hash)
            writer.writerow([*cells, *(note.others.get(column, "") for column in self.other_columns)])
        with replacing(path) as file:
            file.write(text.getvalue().encode("utf-8", "backslashreplace"))


def _note(path: Path, row: Row, others: Sequence[str]) -> RowNote:
    where = f"{path}, line {row.line}"
    index, rating = str(row.values["row_index"]).strip(), str(row.values["rating"]).strip().lower()
    if not index.isascii() or not index.isdecimal():
        raise InputError(f"{where}: row_index is {index!r}; expected the row's position, from 0")
    if rating not in RATINGS:
        raise InputError(f"{where}: rating is {rating!r}; expected right, wrong or an empty cell")
    return RowNote(
        int(index),
        str(row.values["row_key"]),
        rating,
        str(row.values["comment"]),
        str(row.values.get("answer_hash", "")).strip(),
        {column: str(row.values[column]) for column in others},
    )


def _may_be(row_key: str, known: str, position: int) -> bool:
    """Return whether a row of which only `known` is known may have this key in the batch."""
    return known == str(position) or row_key.startswith(f"{known}|")
