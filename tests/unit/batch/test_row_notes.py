"""Notes of people on rows: kept, found again, and refused where they are not understood."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrun.batch.paths import paths_for
from batchrun.batch.row_notes import RowNote, RowNotes, answer_hash
from batchrun.errors import InputError

HEAD = "row_index,row_key,rating,comment\n"


def test_notes_survive_a_round_trip(tmp_path: Path) -> None:
    """Every character of a comment and of a key comes back, and the file has the columns that its readers need."""
    path = paths_for(tmp_path / "a.csv").notes
    assert RowNotes.read(path).listed == ()
    notes = RowNotes()
    for index, text in enumerate(('a, "b"\nc', "=1+1", "é\u2028\u202e 漢", " padded ", "x\r\ny")):
        notes = notes.with_note(RowNote(index, f"k{text}", "wrong", text, answer_hash(text)))
    notes.write(path)
    assert path.name == "a.csv.notes.csv"
    assert path.read_bytes().startswith(HEAD.strip().encode())
    assert RowNotes.read(path).listed == notes.listed


def test_a_note_is_replaced_in_its_place_and_removed_when_empty(tmp_path: Path) -> None:
    """Other rows, their order and columns that a reader added are kept."""
    path = tmp_path / "a.csv.notes.csv"
    path.write_text("row_key;who;row_index;rating;comment\nq1;Ann;0;Right;\nq2;Bob;1;;why?\nq1;Cy;0;wrong;\n")
    notes = RowNotes.read(path).with_note(RowNote(0, "q1", "wrong", "typo")).with_note(RowNote(5, "q6", "right"))
    notes.write(path)
    assert path.read_text() == (
        "row_index,row_key,rating,comment,answer_hash,who\n0,q1,wrong,typo,,Ann\n1,q2,,why?,,Bob\n5,q6,right,,,\n"
    )
    assert [each.row_key for each in notes.with_note(RowNote(1, "q2")).listed] == ["q1", "q6"]


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        (["q1", "q2", "q2|epoch=2"], {0: "a", 2: "b"}),
        (["new", "q1", "q2", "q2|epoch=2"], {1: "a", 3: "b"}),
        (["q1", "q2", "q2"], {0: "a", 2: "b"}),  # the table has the ids, and no keys of the batch
        (["0", "1", "2"], {0: "a", 2: "b"}),  # it has positions
        (["q9", "q2"], {}),
    ],
)
def test_a_note_belongs_to_the_row_with_its_key(keys: list[str], found: dict[int, str]) -> None:
    """Rows that moved keep their notes, and a note never goes to a row of which another key is known."""
    notes = RowNotes([RowNote(0, "q1", comment="a"), RowNote(2, "q2|epoch=2", comment="b")])
    assert {position: note.comment for position, note in notes.matched(keys).items()} == found


def test_keys_that_are_numbers_are_not_positions() -> None:
    """In a table whose key column is not named, a note on the row 2 of keys from 1 is found by its position."""
    notes = RowNotes([RowNote(0, "1", comment="a"), RowNote(1, "2", comment="b"), RowNote(2, "3", comment="c")])
    assert {at: note.comment for at, note in notes.matched(["0", "1", "2"]).items()} == {0: "a", 1: "b", 2: "c"}
    assert {at: note.comment for at, note in notes.matched(["1", "2", "3"]).items()} == {0: "a", 1: "b", 2: "c"}


def test_a_note_knows_whether_the_answer_is_another_one() -> None:
    """A note is about the answer that was there when it was written; one made by hand is about any."""
    note = RowNote(0, "q1", "right", answer_hash=answer_hash("4"))
    assert (note.is_about("4"), note.is_about("5"), note.is_about(None)) == (True, False, False)
    assert RowNote(0, "q1", "right").is_about("5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row_key,rating,comment\nq1,right,\n", "has no column 'row_index'; expected the columns row_index, row_key"),
        (f"{HEAD}0,q1,right,\n1,q2,maybe,\n", "line 3: rating is 'maybe'; expected right, wrong or an empty cell"),
        (f"{HEAD}-1,q1,right,\n", "line 2: row_index is '-1'; expected the row's position, from 0"),
        (f"{HEAD}0,q1\n", "line 2: expected 4 cells as in the first line, found 2"),
    ],
)
def test_a_file_that_is_not_understood_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """The message names the file and the line, and no cell is guessed."""
    path = tmp_path / "a.csv.notes.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"a\.csv\.notes\.csv") as raised:
        RowNotes.read(path)
    assert message in str(raised.value)
