"""The first line of a CSV: names or a row; the column with the most text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from batchrun.tables import Source, header_hint, header_notice, longest_text_column
from batchrun.tables.header import looks_like_row

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


def test_the_only_column_is_announced(table: Table) -> None:
    """A list of questions without a header would lose its first question: the notice quotes it."""
    notice = header_notice(table("What is 2+3?\nWhat is 4*5?\n"))
    assert notice.endswith(
        "the first line, 'What is 2+3?', is used as the name of the column; if it is a row, add --no-header"
    )
    assert header_notice(table("question\nWhat is 4*5?\n")) == ""
    assert header_notice(table("1,2\n3,4\n")) == ""


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
