"""Lines above the header of a CSV: what is recognised, what is said, and what stays a header."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from batchrun.tables import Source
from batchrun.tables.source import notes_of

Open = Callable[..., Source]


@pytest.mark.parametrize(
    ("content", "columns", "line", "note"),
    [
        ("sep=;\nid;question\n1;What?\n", ("id", "question"), 3, None),
        ("sep=,\r\nid,question\r\n1,What?\r\n", ("id", "question"), 3, None),
        ('\ufeff"sep=|"\nid|question\n1|a;b\n', ("id", "question"), 3, None),
        ("SEP=\t\nid\tquestion\n1\tWhat?\n", ("id", "question"), 3, None),
        ("# exported\n# by X, Y\nid,a,b\n1,2,3\n", ("id", "a", "b"), 4, "'# exported', '# by X, Y'"),
        ("My report\n\nid,question\n1,What?\n", ("id", "question"), 4, "'My report'"),
        ("My report\nof today\n\n\nid;question\n1;What?\n", ("id", "question"), 6, "'My report', 'of today'"),
        ("Export of today,,\nid,question,answer\n1,What?,2\n", ("id", "question", "answer"), 3, "'Export of today'"),
        ("Title;;\nmore;;\nid;question;answer\n1;What?;2\n", ("id", "question", "answer"), 4, "'Title', 'more'"),
        ("Title,,\n,,\nid,question,answer\n1,What?,2\n", ("id", "question", "answer"), 4, "'Title'"),
        ("Title,,\n\nmore,,\nid,question,answer\n1,What?,2\n", ("id", "question", "answer"), 5, "'Title', 'more'"),
    ],
)
def test_lines_above_the_header(
    table: Open, content: str, columns: tuple[str, ...], line: int, note: str | None
) -> None:
    """Excel's `sep=` line, comments and titles are not part of the table; a line names what people wrote."""
    source = table(content)
    assert source.columns == columns
    assert [row.line for row in source.rows()] == [line]
    if note is None:
        assert notes_of(source) == ()
    else:
        (found,) = notes_of(source)
        assert found.endswith(f"the lines above the header are not part of the table: {note}")


@pytest.mark.parametrize(
    ("content", "columns", "rows"),
    [
        ("#,question\n1,What?\n2,Who?\n", ("#", "question"), 2),
        ("# heading\nWhat?\n", ("# heading",), 1),
        ("question\n\nWhat is 1, 2 and 3?\n", ("question",), 1),
        ("question\nWhat is 1, 2?\nWhat is 3, 4?\n", ("question",), 2),
        ("id,q\n1,a\n\n2,b\n3,c\n", ("id", "q"), 3),
        ("# a,b\n1,2\n3,4\n", ("# a", "b"), 2),
        ("question,\nWhat?,\n", ("question", "column_2"), 1),
        ("id,,\n1,a,b\n2,c,d\n", ("id", "column_2", "column_3"), 2),
    ],
)
def test_what_is_a_header(table: Open, content: str, columns: tuple[str, ...], rows: int) -> None:
    """A header that begins with `#`, a table of one column and blank lines between rows are not lines above a header."""
    source = table(content)
    assert source.columns == columns
    assert sum(1 for _ in source.rows()) == rows


def test_skip_rows(table: Open) -> None:
    """--skip-rows counts physical lines, and nothing else is looked for."""
    source = table("one\ntwo,2\nid,question\n1,What?\n", skip_rows=2)
    assert source.columns == ("id", "question")
    assert [row.line for row in source.rows()] == [4]
    assert table("# a\n# b,c\n1,2\n", skip_rows=1).columns == ("# b", "c")
    assert table("a,b\n1,2\n", skip_rows=0).columns == ("a", "b")


@pytest.mark.parametrize(
    ("content", "columns", "note"),
    [
        (",question\n0,What?\n", ("column_1", "question"), "column 1 has no name and is called column_1"),
        ("id,question,\n1,What?,\n", ("id", "question", "column_3"), "column 3 has no name and is called column_3"),
    ],
)
def test_columns_without_a_name(table: Open, content: str, columns: tuple[str, ...], note: str) -> None:
    """The index that pandas writes, and a comma at the end of each line, are columns with a name of ours, and a note."""
    source = table(content)
    assert source.columns == columns
    assert notes_of(source)[0].endswith(f"line 1: {note}")
