"""Reading and writing frames."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.errors import InputError
from batchrun.records import OUTPUT_COLUMNS
from batchrun.tables import ReadOptions, Source, WriteOptions, open_source, to_frame, validate, write_table

Open = Callable[..., Source]
Outcomes = Callable[..., Iterator[dict[str, Any]]]


def test_frame_in() -> None:
    """Cells of a frame are plain Python values, and every kind of missing value is None."""
    frame = pd.DataFrame(
        {
            "q": ["007", None],
            "n": pd.array([2**60, None], dtype="Int64"),
            "x": [0.5, float("nan")],
            "when": [pd.Timestamp("2026-01-02"), pd.NaT],
            "what": [{"k": (1, 2)}, None],
            5: pd.Categorical(["a", None]),
        }
    )
    first, second = open_source(frame, ReadOptions()).rows()
    assert first.values == {
        "q": "007", "n": 2**60, "x": 0.5, "when": "2026-01-02T00:00:00", "what": {"k": [1, 2]}, "5": "a",
    }  # fmt: skip
    assert list(second.values.values()) == [None] * 6
    assert type(first.values["n"]) is int


def test_long_frame() -> None:
    """Rows keep their order across the slices that are converted one at a time."""
    source = open_source(pd.DataFrame({"n": range(3000)}), ReadOptions())
    assert [(row.row_index, row.values["n"]) for row in source.rows()] == [(i, i) for i in range(3000)]
    assert validate(source) == 3000


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (pd.DataFrame({"a": [1], 1: [2], "1": [3]}), "two columns are named '1'"),
        (pd.DataFrame({"": [1]}), "no name"),
        (pd.DataFrame(index=[1, 2]), "has no columns"),
    ],
)
def test_unusable_frames(frame: pd.DataFrame, expected: str) -> None:
    """Columns without a name or with the same name, and frames without columns, are refused."""
    with pytest.raises(InputError, match=expected):
        open_source(frame, ReadOptions())


@pytest.mark.parametrize("options", [ReadOptions(delimiter=","), ReadOptions(encoding="utf-8")])
def test_options_of_text(options: ReadOptions) -> None:
    """Encoding and delimiter, which do not apply to a frame, are refused."""
    with pytest.raises(InputError, match=r"^data: "):
        open_source(pd.DataFrame({"a": [1]}), options)


def test_fingerprint_of_a_frame() -> None:
    """The fingerprint of a frame depends only on names, values and their types."""
    code = (
        "import pandas as pd; from batchrun.tables import *\n"
        "print(open_source(pd.DataFrame({'a': ['é', None], 'b': [{'k': 1}, 2]}), ReadOptions()).fingerprint())"
    )

    def fingerprint(*a: Any) -> str:
        return open_source(pd.DataFrame({"a": a, "b": [{"k": 1}, 2]}), ReadOptions()).fingerprint()

    other = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True).stdout.strip()
    assert fingerprint("é", None) == other
    assert len({other, fingerprint("é", "x"), fingerprint(1, 2), fingerprint("1", "2")}) == 4


def test_frame_to_frame(outcomes: Outcomes) -> None:
    """A frame keeps its dtypes and even a repeated index; added columns have their own dtypes; the input is not changed."""
    frame = pd.DataFrame({"q": ["a", "b"], "n": [1, 2]}, index=[7, 7])
    cells = outcomes("x", None, prompt_tokens=3, passed=True)
    options = WriteOptions(extra_columns={"passed": bool})
    found = to_frame(open_source(frame, ReadOptions()), cells, options)
    assert list(frame.columns) == ["q", "n"]
    assert list(found.columns) == ["q", "n", *OUTPUT_COLUMNS, "passed"]
    assert found.index.tolist() == [7, 7]
    assert found["n"].dtype == frame["n"].dtype
    assert found["response"].fillna("").tolist() == ["x", ""]
    kinds = {str: "str", int: "Int64", float: "Float64", bool: "boolean", datetime: "datetime64[us, UTC]"}
    for key, kind in {**OUTPUT_COLUMNS, "passed": bool}.items():
        assert found[key].dtype == kinds[kind], key
    assert found["prompt_tokens"].tolist() == [3, 3]
    assert found["cost_usd"].isna().all()


def test_files_to_frame(table: Open, outcomes: Outcomes) -> None:
    """Text stays text in a frame; JSON numbers become numbers if all values are, and long integers keep their digits."""
    found = to_frame(table("a,b\n007,\n"), outcomes("x"), WriteOptions(prefix="o_"))
    assert found[["a", "b", "o_response"]].iloc[0].tolist() == ["007", "", "x"]
    source = table('{"i": 1, "f": 1, "l": [1], "t": null}\n{"f": 0.5, "l": 36893488147419103232}\n', "in.jsonl")
    found = to_frame(source, outcomes("x", "y"), WriteOptions())
    assert [str(found[column].dtype) for column in source.columns] == ["Int64", "Float64", "object", "str"]
    assert found["l"].tolist() == [[1], 2**65]
    assert found["i"].tolist() == [1, pd.NA]


def test_moments_and_lists(outcomes: Outcomes) -> None:
    """Moments become timestamps in UTC, and a list stays a list."""
    options = WriteOptions(extra_columns={"files": list})
    moment = "2026-01-02T03:04:05.678+00:00"
    found = to_frame(
        open_source(pd.DataFrame({"q": ["a"]}), ReadOptions()), outcomes("x", completed_at=moment, files=["f"]), options
    )
    assert found.loc[0, "completed_at"] == pd.Timestamp(moment)
    assert found.loc[0, "files"] == ["f"]


def test_text_that_cannot_be_encoded(outcomes: Outcomes) -> None:
    """Half a surrogate pair, which no text of dtype str can hold, is kept in a column of dtype object."""
    found = to_frame(open_source(pd.DataFrame({"q": ["a"]}), ReadOptions()), outcomes("\ud800"), WriteOptions())
    assert found["response"].tolist() == ["\ud800"]


@pytest.mark.parametrize(
    "index",
    [
        pd.MultiIndex.from_tuples([("a", 1), ("a", 1)], names=["k", "n"]),
        pd.date_range("2026-01-01", periods=2, name="day"),
        pd.Index([None, None], dtype="object"),
        pd.CategoricalIndex(["x", "y"]),
        pd.RangeIndex(5, 9, 2),
    ],
)
def test_any_index_is_kept(index: pd.Index[Any], outcomes: Outcomes) -> None:
    """A frame keeps its index with names, levels and type, its own labels of columns and its attributes."""
    frame = pd.DataFrame({0: ["a", "b"], "n": [1, 2]}).set_axis(index)
    frame.attrs["source"] = "survey"
    found = to_frame(open_source(frame, ReadOptions()), outcomes("x", "y"), WriteOptions())
    pd.testing.assert_index_equal(found.index, index, exact=True)
    pd.testing.assert_frame_equal(found[[0, "n"]], frame)
    assert found.attrs == {"source": "survey"}


def test_clash_and_count(outcomes: Outcomes) -> None:
    """A name that would occur twice and a wrong number of outcomes are refused."""
    source = open_source(pd.DataFrame({"status": ["a"]}), ReadOptions())
    with pytest.raises(InputError, match="'status'"):
        to_frame(source, outcomes("x"), WriteOptions())
    with pytest.raises(ValueError, match="zip"):
        to_frame(source, outcomes("x", "y"), WriteOptions(prefix="o_"))


def test_frame_to_parquet(tmp_path: Path, outcomes: Outcomes) -> None:
    """Columns that Arrow can convert keep their type; mixed columns become JSON text; columns without values become text."""
    frame = pd.DataFrame(
        {
            "when": pd.Series([pd.Timestamp("2026-01-02 03:04:05.000000001"), pd.NaT]),
            "n": pd.array([1, None], dtype="Int64"),
            "mixed": ["a", 1],
            "none": [None, None],
            "l": [[1], None],
            "odd": [complex(1, 2), float("nan")],
        }
    )
    source = open_source(frame, ReadOptions())
    write_table(tmp_path / "out.parquet", source, outcomes("x", "y"), WriteOptions())
    found = pq.read_table(tmp_path / "out.parquet").select(list(source.columns))
    types = [field.type for field in found.schema]
    assert types == [pa.timestamp("ns"), pa.int64(), pa.string(), pa.string(), pa.list_(pa.int64()), pa.string()]
    assert found["when"].cast(pa.int64()).to_pylist() == [1_767_323_045_000_000_001, None]
    assert found["mixed"].to_pylist() == ['"a"', "1"]
    assert found["none"].to_pylist() == [None, None]
    assert found["odd"].to_pylist() == ["(1+2j)", None]
