"""Reading and writing Parquet."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.errors import InputError
from batchrun.records import OUTPUT_COLUMNS
from batchrun.tables import ReadOptions, Source, WriteOptions, open_source, validate, write_table

Open = Callable[..., Source]
Outcomes = Callable[..., Iterator[dict[str, Any]]]
UTC = dt.UTC


@pytest.fixture
def exotic() -> pa.Table:
    moment = 1_767_322_800_000_000_001
    pair = pa.struct([("k", pa.string()), ("n", pa.int8())])
    return pa.table(
        {
            "ns": pa.array([moment, None], pa.timestamp("ns", tz="Europe/Paris")),
            "day": pa.array([dt.date(2026, 1, 2), None], pa.date32()),
            "amount": pa.array([Decimal("12345678901234567890.1234"), None], pa.decimal128(38, 4)),
            "nested": pa.array([[{"k": "v", "n": None}], []], pa.list_(pair)),
            "word": pa.array(["a", "b"]).dictionary_encode(),
            "large": pa.array(["x", None], pa.large_string()),
            "bytes": pa.array([b"\xff\x00", None], pa.binary()),
            "big": pa.array([2**64 - 1, None], pa.uint64()),
            "small": pa.array([0.1, None], pa.float32()),
            "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
            "flag": pa.array([True, False]),
        }
    )  # fmt: skip


def test_cells_are_plain_python(tmp_path: Path, exotic: pa.Table) -> None:
    """Cells are plain Python values; dates, decimals and bytes become equivalent text."""
    pq.write_table(exotic, tmp_path / "in.parquet")
    source = open_source(tmp_path / "in.parquet", ReadOptions())
    first, second = source.rows()
    assert first.values == {
        "ns": "2026-01-02T04:00:00.000000001+01:00",
        "day": "2026-01-02",
        "amount": "12345678901234567890.1234",
        "nested": [{"k": "v", "n": None}],
        "word": "a",
        "large": "x",
        "bytes": "\\xff\x00",
        "big": 2**64 - 1,
        "small": pytest.approx(0.1),
        "map": [["k", 1]],
        "flag": True,
    }
    assert [second.values[name] for name in ("ns", "day", "amount", "bytes", "big", "map")] == [None] * 6
    assert (first.row_index, second.row_index, first.line) == (0, 1, None)


def test_parquet_to_parquet_is_exact(tmp_path: Path, exotic: pa.Table, outcomes: Outcomes) -> None:
    """Input columns keep type, value and field metadata from Parquet to Parquet."""
    fields = [field.with_metadata({"unit": "none"}) if field.name == "big" else field for field in exotic.schema]
    pq.write_table(exotic.cast(pa.schema(fields)), tmp_path / "in.parquet")
    source = open_source(tmp_path / "in.parquet", ReadOptions())
    assert write_table(tmp_path / "out.parquet", source, outcomes("x", "y"), WriteOptions()) == 2
    before, after = pq.read_table(tmp_path / "in.parquet"), pq.read_table(tmp_path / "out.parquet")
    assert after.select(before.column_names).equals(before, check_metadata=True)
    assert after["response"].to_pylist() == ["x", "y"]


def test_output_types_are_fixed(tmp_path: Path, table: Open, outcomes: Outcomes) -> None:
    """Added columns, even extra ones, have their types even if every value is missing."""
    options = WriteOptions(prefix="out_", extra_columns={"score": float, "passed": bool, "parts": list})
    extra = {"score": None, "passed": True, "parts": [1, "é"]}
    write_table(tmp_path / "out.parquet", table("q\n007\n"), outcomes(None, **extra), options)
    schema = pq.read_schema(tmp_path / "out.parquet")
    assert schema.names == ["q", *("out_" + name for name in (*OUTPUT_COLUMNS, "score", "passed", "parts"))]
    expected = {
        str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), list: pa.string(),
        datetime: pa.timestamp("us", tz="UTC"),
    }  # fmt: skip
    for key, kind in {**OUTPUT_COLUMNS, **options.extra_columns}.items():
        assert schema.field("out_" + key).type == expected[kind], key
    (row,) = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert (row["q"], row["out_passed"], row["out_parts"]) == ("007", True, '[1,"é"]')


def test_types_from_json(tmp_path: Path, table: Open, outcomes: Outcomes) -> None:
    """JSON columns become int64, float64, bool or text if that is exact for all rows, otherwise JSON text."""
    rows: list[dict[str, Any]] = [
        {"i": 1, "f": 1, "b": True, "t": "x", "mixed": "1", "nested": {"k": [1]}, "large": 2**70, "none": None},
        {"f": 0.5, "mixed": 1},
    ]
    source = table("".join(json.dumps(row) + "\n" for row in rows), "in.jsonl")
    write_table(tmp_path / "out.parquet", source, outcomes("x", "y"), WriteOptions())
    found = pq.read_table(tmp_path / "out.parquet").select(list(source.columns))
    assert [str(field.type) for field in found.schema] == [
        *("int64", "double", "bool", "string", "string", "string", "string", "string"),
    ]
    assert found.to_pylist() == [
        {**rows[0], "mixed": '"1"', "nested": '{"k":[1]}', "large": str(2**70)},
        {**dict.fromkeys(rows[0]), "f": 0.5, "mixed": "1"},
    ]


def test_lone_surrogates(tmp_path: Path, table: Open, outcomes: Outcomes) -> None:
    """Text that UTF-8 cannot encode is escaped in names, input and answers."""
    source = table('{"\\udc00": "\\ud800"}\n', "in.jsonl")
    write_table(tmp_path / "out.parquet", source, outcomes("a\udfffb"), WriteOptions())
    (row,) = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert (row["\\udc00"], row["response"]) == ("\\ud800", "a\\udfffb")


def test_row_groups(tmp_path: Path, outcomes: Outcomes) -> None:
    """Batches are combined into row groups of a useful size, and every row is written once and in order."""
    count = 70_000
    pq.write_table(pa.table({"n": range(count)}), tmp_path / "in.parquet", row_group_size=999)
    source = open_source(tmp_path / "in.parquet", ReadOptions())
    assert validate(source) == count
    write_table(tmp_path / "out.parquet", source, outcomes(*map(str, range(count))), WriteOptions())
    found = pq.read_table(tmp_path / "out.parquet")
    assert found["n"].to_pylist() == list(range(count))
    assert found["response"].to_pylist() == [str(n) for n in range(count)]
    assert 2 <= pq.read_metadata(tmp_path / "out.parquet").num_row_groups <= 4


@pytest.mark.parametrize("given", [0, 1, 3, 300])
def test_number_of_outcomes(tmp_path: Path, table: Open, outcomes: Outcomes, given: int) -> None:
    """Too few or too many outcomes are a bug, and nothing is written."""
    with pytest.raises(ValueError, match=r"there are (fewer|more) outcomes"):
        write_table(tmp_path / "out.parquet", table("q\na\nb\n"), outcomes(*"x" * given), WriteOptions())
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a,b\n1,2\n", "not a Parquet file"),
        (b"", "empty"),
        (b"PAR1" + b"\0" * 40 + b"PAR1", "not a Parquet file"),
    ],
)
def test_not_parquet(tmp_path: Path, content: bytes, expected: str) -> None:
    """A file that is not Parquet is refused in one line."""
    (tmp_path / "in.parquet").write_bytes(content)
    with pytest.raises(InputError, match=expected) as caught:
        open_source(tmp_path / "in.parquet", ReadOptions())
    assert "\n" not in str(caught.value)


def test_damaged_pages(tmp_path: Path) -> None:
    """Damaged pages with a valid footer are found by validate, in one line."""
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"q": [f"question {i * 7919}" for i in range(5000)]}), path)
    content = bytearray(path.read_bytes())
    content[4:2000] = b"\xa5" * 1996
    path.write_bytes(content)
    source = open_source(path, ReadOptions())
    with pytest.raises(InputError, match=r"in\.parquet: .*damaged") as caught:
        validate(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "a"], "two columns are named 'a'"),
        (["a", ""], "column 2 of 2 has no name"),
    ],
)
def test_unusable_tables(tmp_path: Path, names: list[str], expected: str) -> None:
    """Columns without a name or with the same name are refused."""
    pq.write_table(pa.table([pa.array(["x"])] * len(names), names=names), tmp_path / "in.parquet")
    with pytest.raises(InputError, match=expected):
        open_source(tmp_path / "in.parquet", ReadOptions())


def test_heavy_imports(tmp_path: Path) -> None:
    """Reading Parquet does not import pandas, and neither reading nor writing imports pyarrow.dataset."""
    code = (
        "import sys; from pathlib import Path\n"
        "from batchrun.tables import *; from batchrun.records import OUTPUT_COLUMNS\n"
        "source = open_source(sys.argv[1], ReadOptions()); validate(source)\n"
        "assert 'pandas' not in sys.modules\n"
        "write_table(Path(sys.argv[2]), source, iter([dict.fromkeys(OUTPUT_COLUMNS)]), WriteOptions())\n"
        "print({'pyarrow.dataset'} & set(sys.modules))"
    )
    pq.write_table(pa.table({"q": ["x"], "n": [1]}), tmp_path / "in.parquet")
    command = [sys.executable, "-c", code, str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet")]
    assert subprocess.run(command, text=True, capture_output=True, check=True).stdout == "set()\n"
