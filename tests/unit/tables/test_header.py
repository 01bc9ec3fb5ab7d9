"""The first line of a CSV: names or a row; the column with the most text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from batchrun.tables import Source, header_hint, header_refusal, longest_text_column
from batchrun.tables.column_names import looks_like_row

Table = Callable[..., Source]


@pytest.mark.parametrize(
    "names",
    [
        ["1", "a"],
        ["-3.5"],
        ["12,5 "],
        ["45%"],
        ["id", "What is 2+3?"],
        ["Name the capital of France."],
        ["name the capital of the largest country of Europe"],
        ["a", "b", "a"],
    ],
)
def test_a_row(names: list[str]) -> None:
    """A number, a sentence, eight words, or the same cell twice."""
    assert looks_like_row(names)


@pytest.mark.parametrize(
    "names", [["id", "Full question"], ["q1", "q2"], ["is it right?".replace(" ", "_")], ["naïve"]]
)
def test_names(names: list[str]) -> None:
    """Words, with or without blanks, are names."""
    assert not looks_like_row(names)


def test_only_a_header_gets_a_hint(table: Table) -> None:
    """Keys of JSON Lines and generated names are not a line of the file."""
    assert "add --no-header" in header_hint(table("1,2\n3,4\n"))
    assert header_hint(table("1,2\n3,4\n", no_header=True)) == ""
    assert header_hint(table('{"1": "a"}\n', "in.jsonl")) == ""
    assert header_hint(table("id,question\n1,2\n")) == ""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "What is 2+3?\nWhat is 4*5?\n",
            "'What is 2+3?', would be the name of the column; if it is a prompt, add --no-",
        ),
        ("# heading\nWhat is 4*5?\n", "add --skip-rows 1"),
        ("name the capital of France\nWhat?\n", "add --no-header"),
        ("Report\nid,q\n1,What?\n", "'Report', has one cell, and the following lines have 2; if it is a title"),
        ("question\nWhat is 1, 2?\nAnd 3, 4?\n", ""),
        ('text\n"What is 1, 2?"\n"And 3, 4?"\n', ""),
        ("text\nWhat is 1, 2?\nWhat is 3?\n", ""),
        ("question\nWhat is 4*5?\n", ""),
        ("1,2\n3,4\n", ""),
    ],
)
def test_the_only_column_may_be_a_row(table: Table, content: str, expected: str) -> None:
    """A list of prompts without a header would lose its first prompt, and a title is not a column."""
    refusal = header_refusal(table(content))
    assert expected in refusal
    assert bool(expected) == bool(refusal)
    assert header_refusal(table(content, no_header=True)) == ""


@pytest.mark.parametrize(
    ("content", "column"),
    [
        ("id,text,note\n1,What is this?,x\n2,And that?,y\n", "text"),
        ("id,amount,q\n1,123456789012345,a\n", "q"),
        ("a,b\n1,2\n", "a"),
        ("a,b\n,\n", "a"),
    ],
)
def test_the_column_with_the_most_text(table: Table, content: str, column: str) -> None:
    """Numbers do not count; the first column is returned if no cell has text."""
    assert longest_text_column(table(content)) == column
