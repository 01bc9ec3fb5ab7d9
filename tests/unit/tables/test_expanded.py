"""Tables that repeat every row for each combination, from and to every format."""

from __future__ import annotations

import csv
import decimal
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.errors import InputError
from batchrun.tables import (
    ReadOptions,
    Source,
    WriteOptions,
    check_output,
    expand,
    open_source,
    to_frame,
    validate,
    write_table,
)
from tests.support.rows import numbered_answers

CELLS: Sequence[Mapping[str, Any]] = (
    {"axis_model": "m", "axis_temperature": 0.5, "epoch": 1},
    {"axis_model": "m", "axis_temperature": 0.5, "epoch": 2},
    {"axis_model": "n", "axis_temperature": None, "epoch": 1},
)
EXACT = decimal.Decimal("1.10")


def jsonl(path: Path) -> Path:
    path.write_text('{"q": "a", "n": 1.50}\n{"q": "b"}\n')
    return path


def parquet(path: Path) -> Path:
    types = pa.schema([("q", pa.string()), ("n", pa.decimal128(5, 2)), ("nested", pa.list_(pa.int32()))])
    rows = [{"q": "a", "n": EXACT, "nested": [1, 2]}, {"q": "b", "n": None, "nested": None}]
    pq.write_table(pa.Table.from_pylist(rows, types), path)
    return path


def text(path: Path) -> Path:
    path.write_text("q,n\na,007\nb,\n")
    return path


@pytest.fixture(params=["csv", "jsonl", "parquet", "frame"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    if request.param == "frame":
        frame = pd.DataFrame({"q": ["a", "b"], "n": pd.array([1, None], dtype="Int64")}, index=["x", "y"])
        return open_source(frame, ReadOptions())
    made: Mapping[str, Callable[[Path], Path]] = {"csv": text, "jsonl": jsonl, "parquet": parquet}
    return open_source(made[request.param](tmp_path / f"in.{request.param}"), ReadOptions())


def told(path: Path) -> list[tuple[Any, ...]]:
    """Return the columns of an output that identify its rows."""
    names = ("q", "axis_model", "axis_temperature", "epoch", "response")
    if path.suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
    elif path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
            for row in rows:
                row["axis_temperature"] = float(row["axis_temperature"]) if row["axis_temperature"] else None
                row["epoch"] = int(row["epoch"])
    return [tuple(row[name] for name in names) for row in rows]


EXPECTED = [
    (question, model, temperature, epoch, f"answer {3 * row + place}")
    for row, question in enumerate("ab")
    for place, (model, temperature, epoch) in enumerate([("m", 0.5, 1), ("m", 0.5, 2), ("n", None, 1)])
]


def test_rows_side_by_side(source: Source) -> None:
    """Each row is repeated for all combinations before the next; positions count the repeated rows, lines those of the input."""
    expanded = expand(source, CELLS)
    assert expanded.columns == (*source.columns, "axis_model", "axis_temperature", "epoch")
    rows = list(expanded.rows())
    assert [row.row_index for row in rows] == list(range(6))
    assert [(row.values["q"], row.values["axis_model"], row.values["epoch"]) for row in rows] == [
        (question, model, epoch) for question in "ab" for model, epoch in [("m", 1), ("m", 2), ("n", 1)]
    ]
    lines = [row.line for row in source.rows()]
    assert [row.line for row in rows] == [line for line in lines for _ in CELLS]
    assert list(expanded.rows()) == rows, "each call starts anew"
    assert validate(expanded) == 6


def test_the_input_stays_the_input(source: Source) -> None:
    """Repeating rows changes neither the name nor the fingerprint of the table."""
    expanded = expand(source, CELLS)
    assert (expanded.name, expanded.fingerprint()) == (source.name, source.fingerprint())


@pytest.mark.parametrize("name", ["out.csv", "out.tsv", "out.jsonl", "out.parquet"])
def test_all_formats(source: Source, tmp_path: Path, name: str) -> None:
    """Every format can be written from every other, each row with its own answer."""
    path = tmp_path / name
    assert write_table(path, expand(source, CELLS), numbered_answers(6), WriteOptions()) == 6
    assert told(path) == EXPECTED


def test_as_a_frame(source: Source) -> None:
    """A DataFrame keeps its dtypes and repeats its index; other inputs are numbered, and their rows share a number."""
    frame = to_frame(expand(source, CELLS), numbered_answers(6), WriteOptions())
    assert frame["response"].tolist() == [f"answer {number}" for number in range(6)]
    assert frame["q"].tolist() == list("aaabbb")
    assert frame["epoch"].tolist() == [1, 2, 1] * 2
    assert frame["axis_model"].tolist() == ["m", "m", "n"] * 2
    if source.name == "data":
        assert frame["n"].dtype == "Int64"
        assert frame.index.tolist() == list("xxxyyy")
    else:
        assert frame.index.tolist() == [0, 0, 0, 1, 1, 1]


def test_types_of_parquet_are_kept(tmp_path: Path) -> None:
    """Decimals and nested values are unchanged; columns of combinations have their own type."""
    source = open_source(parquet(tmp_path / "in.parquet"), ReadOptions())
    write_table(tmp_path / "out.parquet", expand(source, CELLS), numbered_answers(6), WriteOptions())
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.field("n").type == pa.decimal128(5, 2)
    assert table.schema.field("nested").type == pa.list_(pa.int32())
    assert table.schema.field("epoch").type == pa.int64()
    assert table.schema.field("axis_temperature").type == pa.float64()
    assert table.column("n").to_pylist() == [EXACT] * 3 + [None] * 3
    assert table.column("nested").to_pylist() == [[1, 2]] * 3 + [None] * 3


def test_many_rows_and_combinations(tmp_path: Path) -> None:
    """The order is kept across batches, even if one row in all combinations is longer than a batch."""
    rows = 300
    pq.write_table(pa.table({"q": list(range(rows))}), tmp_path / "in.parquet")
    source = expand(open_source(tmp_path / "in.parquet", ReadOptions()), [{"epoch": epoch} for epoch in range(1, 301)])
    write_table(tmp_path / "out.parquet", source, numbered_answers(300 * rows), WriteOptions())
    table = pq.read_table(tmp_path / "out.parquet", columns=["q", "epoch"])
    assert table.column("q").to_pylist() == [row for row in range(rows) for _ in range(300)]
    assert table.column("epoch").to_pylist() == list(range(1, 301)) * rows


def test_values_of_several_types(tmp_path: Path) -> None:
    """An axis with values of different types becomes JSON text."""
    source = expand(open_source(text(tmp_path / "in.csv"), ReadOptions()), [{"axis_x": 1}, {"axis_x": "a"}])
    write_table(tmp_path / "out.parquet", source, numbered_answers(4), WriteOptions())
    assert pq.read_table(tmp_path / "out.parquet").column("axis_x").to_pylist() == ["1", '"a"'] * 2


def test_one_combination_without_columns(source: Source) -> None:
    """With a single combination without columns, the table itself is returned."""
    assert expand(source, [{}]) is source


def test_a_column_of_the_same_name(source: Source) -> None:
    """A column of the input with the name of a combination column is refused by name."""
    with pytest.raises(InputError, match="the column 'q' has the name of a column for combinations; rename it"):
        expand(source, [{"q": 1}])


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_the_output_is_never_the_input(tmp_path: Path, ending: str) -> None:
    """An output that would replace the input is refused, even if rows are repeated."""
    made: Mapping[str, Callable[[Path], Path]] = {"csv": text, "jsonl": jsonl, "parquet": parquet}
    path = made[ending](tmp_path / f"in.{ending}")
    source = expand(open_source(path, ReadOptions()), CELLS)
    with pytest.raises(InputError, match="the output is the input file"):
        check_output(path, source, WriteOptions())
