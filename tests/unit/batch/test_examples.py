"""Examples are read from tables as people have them; what is missing is one line with the file's name."""

from __future__ import annotations

from pathlib import Path

import openpyxl
import pytest

from batchrun.batch.examples import read_examples
from batchrun.errors import InputError


def table(folder: Path, text: str) -> Path:
    path = folder / "shots.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "prompts", "pairs"),
    [
        ("question,answer\n1+1,2\n2+2,4\n", [], [("1+1", "2"), ("2+2", "4")]),
        ("id,prompt,completion\n1,1+1,2\n", [], [("1+1", "2")]),
        ("answer,target,question\nno,2,1+1\n", [], [("1+1", "2")]),
        ("text,label\nGood,positive\n", ["Judge: {{ text }}"], [({"text": "Good"}, "positive")]),
        ("a b,answer\nGood,yes\n", ["Judge: {{ row['a b'] }}"], [({"a b": "Good", "answer": "yes"}, "yes")]),
        ("sentence,label\nGood,positive\n", ["{{ sentence }}", "Judge: {{ sentence }}"], [({"sentence": "Good"}, "positive")]),
        ("sentence,answer\nGood,positive\n", [], [("Good", "positive")]),
    ],
)  # fmt: skip
def test_the_columns_of_examples(tmp_path: Path, text: str, prompts: list[str], pairs: list[object]) -> None:
    """Questions are made by the job's prompt, or are in the default columns; answers have the names of answers."""
    assert read_examples(table(tmp_path, text), prompts, []) == pairs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b,answer\n1,2,3\n", "no column is named 'prompt' or 'question' (columns: 'a', 'b', 'answer')"),
        ("question,a,b\n1,2,3\n", "no column has the answers of the examples (columns: 'question', 'a', 'b')"),
        ("question,answer\n1+1,\n", "line 2: example 1 has no answer"),
        ("question,answer\n1+1,2\n,4\n", "line 3: example 2 has no question"),
        ("question,answer\n", "the table has no rows, so there are no examples"),
    ],
)
def test_a_table_that_has_no_examples(tmp_path: Path, text: str, words: str) -> None:
    """The message names the file, and the line or the columns."""
    with pytest.raises(InputError) as caught:
        read_examples(table(tmp_path, text), [], [])
    assert str(caught.value).startswith("--examples")
    assert "shots.csv" in str(caught.value)
    assert words in str(caught.value)


def test_examples_without_the_columns_of_the_prompt(tmp_path: Path) -> None:
    """A prompt that none of the columns fits is named with them."""
    with pytest.raises(InputError, match=r"uses 'text'; there is no such column \(columns: 'question', 'answer'\)"):
        read_examples(table(tmp_path, "question,answer\n1+1,2\n"), ["Judge: {{ text }}"], [])


def test_an_example_with_an_error(tmp_path: Path) -> None:
    """An error of Excel is not sent as a question or an answer."""
    book = openpyxl.Workbook()
    assert book.active is not None
    for line in (["question", "answer"], ["1+1", "#N/A"]):
        book.active.append(line)
    book.active["B2"].data_type = "e"
    book.save(tmp_path / "shots.xlsx")
    with pytest.raises(InputError, match=r"shots\.xlsx, line 2: the cell in column 'answer' has the error #N/A"):
        read_examples(tmp_path / "shots.xlsx", [], [])


def test_the_sheet_of_examples_is_named(tmp_path: Path) -> None:
    """A line names the sheet that the examples were read from, if there are others."""
    book = openpyxl.Workbook()
    for title in ("shots", "more"):
        sheet = book.create_sheet(title)
        sheet.append(["question", "answer"])
        sheet.append([title, "2"])
    book.save(tmp_path / "shots.xlsx")
    notices: list[str] = []
    assert read_examples(tmp_path / "shots.xlsx", [], notices) == [("shots", "2")]
    assert len(notices) == 1
    assert notices[0].startswith("--examples: ")
    assert "reading the sheet 'shots'; not read: 'more'" in notices[0]
