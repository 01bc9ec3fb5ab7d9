"""Every table can be read, written and read again without a change."""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchrun.tables import ReadOptions, Source, WriteOptions, open_source, validate, write_table
from tests.support.rows import numbered_answers

# NUL and lone surrogates cannot be in a CSV file; the byte order mark at its very start is one.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12) | st.text(
    st.sampled_from(",;\t|\"\r\n \\'=é\u2028\u0085\x1c\ufeff"), max_size=8
)
PREFIX = "\x1f"  # keeps the output's names apart from any that is drawn


def names(cells: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    usable = cells.filter(lambda name: name and not name.startswith(("\ufeff", PREFIX)))
    return st.lists(usable, min_size=1, max_size=4, unique=True)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    header = draw(names(TEXT))
    width = len(header)
    return header, draw(st.lists(st.lists(TEXT, min_size=width, max_size=width), min_size=1, max_size=8))


def cells(source: Source, columns: int) -> list[list[Any]]:
    return [list(row.values.values())[:columns] for row in source.rows()]


def through(folder: str, source: Source, name: str, count: int, delimiter: str | None = None) -> Source:
    """Write the output, check that every row has its own answer, and open it as an input."""
    path = Path(folder) / name
    assert write_table(path, source, numbered_answers(count), WriteOptions(prefix=PREFIX)) == count
    again = open_source(path, ReadOptions(delimiter=delimiter))
    assert [row.values[PREFIX + "response"] for row in again.rows()] == [f"answer {i}" for i in range(count)]
    assert validate(again) == count
    return again


@settings(max_examples=60, deadline=None)  # no example is timed: the first one imports pandas
@given(tables(), st.sampled_from([",", ";", "\t", "|"]), st.sampled_from(["\n", "\r\n"]))
@example((["a"], [[""], ["\r"], ["x\ry"]]), ",", "\n")
@example((["a", "b"], [["", ""], ['"', '""'], ["\n", "\r\n"]]), ";", "\r\n")
def test_delimited(table: tuple[list[str], list[list[str]]], delimiter: str, line_end: str) -> None:
    """Any text in CSV is unchanged, once and in order, in CSV, TSV, JSON Lines and Parquet."""
    header, rows = table
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            # QUOTE_ALL: the stdlib's writer leaves a lone carriage return unquoted on some versions.
            csv.writer(file, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(
                [header, *rows]
            )
        source = open_source(path, ReadOptions(delimiter=delimiter))
        assert source.columns == tuple(header)
        assert cells(source, len(header)) == rows
        for name in ("out.csv", "out.tsv", "out.jsonl", "out.parquet"):
            again = through(folder, source, name, len(rows), delimiter if name == "out.csv" else None)
            assert again.columns[: len(header)] == tuple(header)
            assert cells(again, len(header)) == rows


JSON_TEXT = st.text(st.characters(), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | JSON_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(JSON_TEXT, inner, max_size=3),
    max_leaves=6,
)


KEY = JSON_TEXT.filter(lambda key: key and not key.startswith(PREFIX))


@settings(max_examples=60, deadline=None)  # no example is timed: the first one imports pandas
@given(st.lists(st.dictionaries(KEY, JSON, max_size=4), min_size=1, max_size=6), st.booleans())
def test_json(rows: list[dict[str, Any]], ensure_ascii: bool) -> None:
    """Any JSON objects keep keys, values and types in JSON Lines, once and in order."""
    rows = [{"id": 0}, *rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.jsonl"
        with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.writelines(json.dumps(row, ensure_ascii=ensure_ascii) + "\n" for row in rows)
        source = open_source(path, ReadOptions())
        again = through(folder, source, "out.jsonl", len(rows))
        for before, after, row in zip(source.rows(), again.rows(), rows, strict=True):
            expected = {column: row.get(column) for column in source.columns}
            assert repr(dict(before.values)) == repr(expected)
            assert all(repr(after.values[column]) == repr(expected[column]) for column in source.columns)
        through(folder, source, "out.parquet", len(rows))


def column(values: st.SearchStrategy[Any], kind: pa.DataType) -> st.SearchStrategy[Any]:
    return st.lists(st.none() | values, min_size=3, max_size=3).map(lambda cells: pa.array(cells, kind))


COLUMN = st.one_of(
    column(st.text(st.characters(exclude_categories=["Cs"])), pa.string()),
    column(st.integers(-(2**63), 2**63 - 1), pa.int64()),
    column(st.floats(), pa.float64()),
    column(st.integers(0, 2**60), pa.timestamp("ns", tz="UTC")),
    column(st.lists(st.booleans()), pa.list_(pa.bool_())),
)


@settings(max_examples=60, deadline=None)  # no example is timed: the first one imports pandas
@given(st.lists(COLUMN, min_size=1, max_size=4))
def test_parquet(columns: list[Any]) -> None:
    """Any columns of Parquet keep type and value in Parquet, and all formats keep the number and order of rows."""
    table = pa.table(columns, names=[f"c{i}" for i in range(len(columns))])
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(table, Path(folder) / "in.parquet")
        source = open_source(Path(folder) / "in.parquet", ReadOptions())
        through(folder, source, "out.parquet", 3)
        after = pq.read_table(Path(folder) / "out.parquet").select(table.column_names)
        assert after.schema == table.schema
        # NaN differs from itself; repr does not.
        assert repr(after.to_pylist()) == repr(table.to_pylist())
        for name in ("out.csv", "out.jsonl"):
            through(folder, source, name, 3)
