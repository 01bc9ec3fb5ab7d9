"""CSV and TSV in: faithful cells, physical lines, and one clear line for what is wrong."""

from __future__ import annotations

import csv
import gzip
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from batchrun.errors import InputError
from batchrun.tables import Source, validate

Open = Callable[..., Source]


def cells(source: Source) -> list[list[Any]]:
    return [list(row.values.values()) for row in source.rows()]


def message(table: Open, content: str | bytes, name: str = "in.csv", **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        validate(table(content, name, **options))
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_cells_stay_text(table: Open) -> None:
    """Leading zeros, NA, empty cells, spaces and long integers stay as the user wrote them."""
    source = table("a,b,c,d,e\n007,NA,, x ,123456789012345678901234567890\n")
    assert cells(source) == [["007", "NA", "", " x ", "123456789012345678901234567890"]]


def test_quoted_line_breaks_and_lines(table: Open) -> None:
    """Line breaks inside quotes belong to the cell, and each row has the physical line on which it starts."""
    source = table('q,n\r\n"one\r\ntwo\nthree",1\r\n\r\n"say ""hi""",2\r\n')
    rows = list(source.rows())
    assert [dict(row.values) for row in rows] == [{"q": "one\r\ntwo\nthree", "n": "1"}, {"q": 'say "hi"', "n": "2"}]
    assert [(row.row_index, row.line) for row in rows] == [(0, 2), (1, 6)]


def test_rows_start_again(table: Open) -> None:
    """Every call of rows() gives the whole table, even while another call is partly read."""
    source = table("a\n1\n2\n3\n")
    first = source.rows()
    next(first)
    assert cells(source) == [["1"], ["2"], ["3"]]
    assert [row.values["a"] for row in first] == ["2", "3"]


def test_many_blocks(table: Open) -> None:
    """Rows, line numbers and count are correct across the blocks of the file."""
    count = 60_000
    text = "id,q\n" + "".join(f'{i},"line {i}\nand more"\n' if i % 7 == 0 else f"{i},line {i}\n" for i in range(count))
    source = table(text)
    lines = text.split("\n")
    seen = 0
    for row in source.rows():
        assert row.row_index == seen == int(row.values["id"])
        assert row.line is not None
        assert lines[row.line - 1].startswith(f"{seen},")
        seen += 1
    assert seen == count == validate(source)


def test_a_cell_of_ten_megabytes(table: Open) -> None:
    """A very long cell is read completely, and the limit of csv in the process is unchanged."""
    default = 131_072
    csv.field_size_limit(default)
    long = "x" * 10_000_000
    assert cells(table(f"a,b\n1,{long}\n")) == [["1", long]]
    assert csv.field_size_limit() == default


def test_threads_share_the_limit(table: Open) -> None:
    """Tables with long cells can be read in several threads at once."""
    source = table("a,b\n" + "".join(f"{i},{'x' * 200_000}\n" for i in range(5)))
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(validate(source))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [5, 5, 5, 5]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("a,b\n1,2\n", ("a", "b")),
        ("a;b\n1,5;2,5\n", ("a", "b")),
        ("a\tb\n1;2\t3\n", ("a", "b")),
        ("a|b|c\n1,|2|3\n", ("a", "b", "c")),
        ('"a,x";b\n"1,2";3\n', ("a,x", "b")),
        ('a,"b;c"\n"1;2;3",4\n', ("a", "b;c")),
        ('a;b\n"line, one\nline, two";x\n', ("a", "b")),
        ("id,full name;alias\n1,x\n2,y;z\n", ("id", "full name;alias")),
    ],
)
def test_delimiter_is_found(table: Open, text: str, columns: tuple[str, ...]) -> None:
    """The delimiter is the one with which header and rows agree; quoted delimiters do not count."""
    source = table(text)
    assert source.columns == columns
    assert validate(source) == text.count("\n") - 1 - text.count("line, one")


def test_delimiter_of_a_long_table(table: Open) -> None:
    """A record that is cut at the end of the sample does not count against the delimiter."""
    cut = '1;0,"' + "x" * 70_000 + '\ny",z\n'
    assert table('a;n,b,c\n1;0,"x",z\n' + cut).columns == ("a;n", "b", "c")


def test_one_column_has_no_delimiter(table: Open) -> None:
    """In a table of one column, commas and semicolons in the rows are text."""
    assert cells(table("question\nHello, how are you?\nGood; and you, Ann?\n")) == [
        ["Hello, how are you?"],
        ["Good; and you, Ann?"],
    ]


def test_blank_lines_of_one_column(table: Open) -> None:
    """A blank line is skipped; two quotes are an empty cell of a single column."""
    assert cells(table('q\n\na\n""\n\n')) == [["a"], [""]]


@pytest.mark.parametrize("delimiter", ["\t", "tab", "\\t"])
def test_delimiter_by_name(table: Open, delimiter: str) -> None:
    """A tab can be given as itself or by name."""
    assert cells(table("a\tb,c\n1\t2\n", delimiter=delimiter)) == [["1", "2"]]


def test_a_given_delimiter_holds(table: Open) -> None:
    """A delimiter that the user gave is used without detection."""
    assert table("a,b;c\n1,2;3\n", delimiter=";").columns == ("a,b", "c")


def test_tsv(table: Open) -> None:
    """The delimiter of TSV is the tab, whatever the cells contain."""
    assert cells(table('a\tb\n1,2,3\t"x\ty"\n', "in.tsv")) == [["1,2,3", "x\ty"]]


def test_gzip(table: Open) -> None:
    """A gzipped CSV is read like a plain one."""
    assert cells(table(gzip.compress(b"a,b\n1,2\n", mtime=0), "in.csv.gz")) == [["1", "2"]]


@pytest.mark.parametrize(
    ("codec", "bom"),
    [
        ("utf-8", b""),
        ("utf-8", b"\xef\xbb\xbf"),
        ("utf-16-le", b"\xff\xfe"),
        ("utf-16-be", b"\xfe\xff"),
        ("utf-32-le", b"\xff\xfe\0\0"),
    ],
)
@pytest.mark.parametrize("given", [None, "bom"])
def test_byte_order_marks(table: Open, codec: str, bom: bytes, given: str | None) -> None:
    """The byte order mark decides the encoding and is not part of the first name, even if the encoding is given."""
    encoding = None if given is None else codec.removesuffix("-le").removesuffix("-be")
    source = table(bom + "fråga,b\n日本 🙂,2\n".encode(codec), encoding=encoding)
    assert source.columns == ("fråga", "b")
    assert cells(source) == [["日本 🙂", "2"]]


def test_other_encodings(table: Open) -> None:
    """Text in another encoding is read if the encoding is given."""
    assert cells(table("a,b\n“é”,2\n".encode("cp1252"), encoding="cp1252")) == [["“é”", "2"]]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a,b\n1,2\n3,4,5\n", ["line 3:", "expected 2 cells", "found 3", "quotes around a cell that contains a comma"]),
        ('a,b\n"x\ny",2\n3\n', ["line 4:", "expected 2 cells", "found 1", "missing"]),
        ("a;b\n1;2\n3;4;5\n", ["line 3:", "semicolon"]),
        ('a,b\n1,2\n3,"four\n5,6\n', ["line 3:", "never closed"]),
        ('a,b\n"x\ny","z\n5,6\n', ["line 3:", "never closed"]),
        ('a,b\n1,"x" y\n', ["line 2:", "text after a closing quote", '""']),
        ('id,text\n1,"hello\n2,"foo"\n3,bar\n', ["line 3:", "closing quote", "began on line 2"]),
        ("a,b\n1,2\n3,\x004\n", ["line 3:", "NUL"]),
        ("a,b,a\n1,2,3\n", ["line 1", "'a'", "two columns"]),
        (",,2\n1,2,3\n", ["line 1", "column 1", "no name"]),
        ("", ["empty"]),
        ("\n\n", ["empty"]),
        ("\ufeff", ["empty"]),
        (b"a,b\nok,1\ncaf\xe9,2\n", ["line 3, byte 12 (0xe9)", "UTF-8", "--encoding cp1252"]),
        ("a,b\n1,2\n".encode("utf-16-le"), ["line 1:", "NUL", "--encoding utf-16-le"]),
    ],
)
def test_bad_tables(table: Open, content: str | bytes, expected: list[str]) -> None:
    """Each error is one line with file, place and remedy."""
    text = message(table, content)
    assert "in.csv" in text
    for part in expected:
        assert part in text


@pytest.mark.parametrize(
    ("encoding", "content", "expected"),
    [
        ("utf-16-le", "a,b\nx,".encode("utf-16-le") + b"\x00\xd8", ["line 2, byte 12", "cut off"]),
        ("ascii", b"a,b\r\n1,2\r\n\r\xff,3\r\n", ["line 4, byte 11 (0xff)", "another --encoding"]),
        ("klingon", b"a\n1\n", ["'klingon'", "unknown text encoding"]),
        ("base64", b"a\n1\n", ["'base64'", "unknown text encoding"]),
        ("undefined", b"a\n1\n", ["'undefined'", "unknown text encoding"]),
    ],
)
def test_bad_encodings(table: Open, encoding: str, content: bytes, expected: list[str]) -> None:
    """The place of a byte in the wrong encoding is given, and an unknown encoding is named."""
    text = message(table, content, encoding=encoding)
    for part in expected:
        assert part in text


def test_a_bad_byte_far_behind(table: Open) -> None:
    """Line and byte of an invalid character are counted from the start of the file, not of a buffer."""
    good = "".join(f"{i},é\n" for i in range(100_000)).encode()
    text = message(table, b"a,b\n" + good + b"x,\xff\n")
    assert f"line 100002, byte {4 + len(good) + 2} (0xff)" in text


@pytest.mark.parametrize("content", [gzip.compress(b"a,b\n" + b"1,2\n" * 999, mtime=0)[:-12], b"\x1f\x8b\x08"])
def test_broken_gzip(table: Open, content: bytes) -> None:
    """A truncated or invalid gzip file is refused in one line."""
    assert "in.csv.gz: is a damaged compressed file" in message(table, content, "in.csv.gz")


@pytest.mark.parametrize("delimiter", ["", "ab", '"', "\n", "\0"])
def test_bad_delimiters(table: Open, delimiter: str) -> None:
    """An invalid delimiter is refused by name."""
    assert f"--delimiter {delimiter!r}" in message(table, "a,b\n1,2\n", delimiter=delimiter)


def test_the_first_fault_is_named(table: Open) -> None:
    """If a block has two errors, the first one is reported."""
    assert "line 2:" in message(table, 'a,b\n1,2,3\n"x" y,2\n', delimiter=",")


def test_a_table_without_a_header(table: Open) -> None:
    """The first line is a row, the columns have numbers, and all rows need the width of the first."""
    source = table("1,What is 2+3?\n2,What is 4*5?\n", no_header=True)
    assert source.columns == ("column_1", "column_2")
    assert [(row.row_index, row.line, row.values["column_2"]) for row in source.rows()] == [
        (0, 1, "What is 2+3?"),
        (1, 2, "What is 4*5?"),
    ]
    with pytest.raises(InputError, match="line 2: expected 2 cells as in the first line, found 1"):
        validate(table("a,b\nc\n", no_header=True))


def test_a_single_row_without_a_header(table: Open) -> None:
    """One line is a table of one row."""
    assert [row.values for row in table("What is 2+3?\n", no_header=True).rows()] == [{"column_1": "What is 2+3?"}]


def test_a_tsv_without_a_header(table: Open) -> None:
    """TSV has the same option."""
    assert [row.values for row in table("a\tb\n", "in.tsv", no_header=True).rows()] == [
        {"column_1": "a", "column_2": "b"}
    ]


@pytest.mark.parametrize(("name", "content"), [("in.jsonl", '{"a": 1}\n'), ("in.parquet", "PAR1")])
def test_formats_that_always_have_names(table: Open, name: str, content: str) -> None:
    """JSON Lines and Parquet refuse the option."""
    with pytest.raises(InputError, match=f"{name}: --no-header is for CSV, TSV and Excel only"):
        table(content, name, no_header=True)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("1,1\n2,2\n", "two columns are named '1'; rename one, or add --no-header if this line is a row"),
        ("a,a\n", "two columns are named 'a'; rename one, or add --no-header if this line is a row"),
        (",1\n0,2+3\n", "has no name; give it one, or add --no-header if this line is a row"),
    ],
)
def test_a_header_that_may_be_a_row(table: Open, content: str, expected: str) -> None:
    """The message says what to do if the first line is a row, or the index of a frame."""
    with pytest.raises(InputError, match=re.escape(expected)):
        table(content)
