"""Tables of several files: folders and patterns of parts."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from batchrun.errors import InputError
from batchrun.records import OUTPUT_COLUMNS
from batchrun.scoring.scored_output import default_scored
from batchrun.tables import (
    InputWatch,
    ReadOptions,
    WriteOptions,
    cells_of,
    check_output,
    expand,
    open_source,
    validate,
)
from batchrun.tables.part_names import default_name, is_parts, would_be_part
from batchrun.tables.sink import write_table


def written(folder: Path, **files: str | bytes) -> Path:
    """Write files, whose names have `__` for a period, and return their folder."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / name.replace("__", ".")).write_bytes(data)
    return folder


def csv_parts(tmp_path: Path) -> Path:
    return written(tmp_path / "in", a__csv="id,q\n1,x\n", b__csv="id,q\n2,y\n3,z\n", c__csv="id,q\n")


def rows(source: Any) -> list[tuple[int, list[Any], str]]:
    return [(row.row_index, list(row.values.values()), row.where) for row in source.rows()]


@pytest.mark.parametrize("pattern", ["", "*.csv", "[ab].csv", "?.csv", "../*/*.csv", "../**/*.csv"])
def test_rows_are_numbered_through(tmp_path: Path, pattern: str) -> None:
    """A folder and a pattern are one table: rows in the order of the names, each with its part and its line in it."""
    source = open_source(f"{csv_parts(tmp_path)}/{pattern}", ReadOptions())
    assert [values for _, values, _ in rows(source)] == [["1", "x"], ["2", "y"], ["3", "z"]]
    assert [index for index, _, _ in rows(source)] == [0, 1, 2]
    assert [where.rpartition(" of ")[0] for _, _, where in rows(source)] == ["line 2", "line 2", "line 3"]
    assert [where[-5:] for _, _, where in rows(source)] == ["a.csv", "b.csv", "b.csv"]
    assert (validate(source), list(cells_of(source, "q"))) == (3, ["x", "y", "z"])


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a__jsonl": '{"k": 1}\n', "b__jsonl": '{"k": 2, "m": [1]}\n'}, [[1, None], [2, [1]]]),
        ({"a__csv__gz": gzip.compress(b"k\n1\n"), "b__csv": "k\n2\n"}, [["1"], ["2"]]),
        ({"a__tsv": "k\tm\n1\t2\n", "b__tsv": "k\tm\n3\t4\n"}, [["1", "2"], ["3", "4"]]),
        ({"a__csv": "k;m\n1,5;2\n", "b__csv": "k;m\n"}, [["1,5", "2"]]),
        ({"a__csv": "", "b__csv__gz": gzip.compress(b""), "c__csv": "k\n1\n"}, [["1"]]),
        ({"_SUCCESS": "", "__a__csv__crc": b"\0", "_tmp__csv": "x\n", "c__csv": "k\n1\n"}, [["1"]]),
    ],
    ids=["keys", "compressed", "tsv", "delimiter", "empty", "hidden"],
)
def test_parts_as_other_programs_write_them(
    tmp_path: Path, files: dict[str, str | bytes], expected: list[list[Any]]
) -> None:
    """Missing keys, compression, empty partitions and marker files are those of one table."""
    assert [values for _, values, _ in rows(open_source(written(tmp_path / "in", **files), ReadOptions()))] == expected


def test_empty_files_are_named(tmp_path: Path) -> None:
    """A line says how many parts there are and how many empty files were left out."""
    source = open_source(str(written(tmp_path / "in", a__csv="", b__csv="k\n1\n")), ReadOptions())
    assert getattr(source, "about", "").endswith("in: one part, b.csv; 1 empty file left out")


def test_an_option_is_for_every_part(tmp_path: Path) -> None:
    """Spark writes CSV without headers: --no-header reads the first line of every part as a row."""
    source = open_source(written(tmp_path / "in", a__csv="1,x\n", b__csv="2,y\n"), ReadOptions(no_header=True))
    assert [values for _, values, _ in rows(source)] == [["1", "x"], ["2", "y"]]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "in: the folder has no files; names that begin with _ or . are passed over"),
        ({"_a__csv": "k\n1\n"}, "the folder has no files"),
        ({"a__csv": "", "b__csv": ""}, "in: all parts are empty"),
        ({"a__csv": "k,m\n", "b__csv": "k\n"}, r"b\.csv: lacks the column 'm' of .*a\.csv; all parts need the same"),
        ({"a__csv": "k,m\n", "b__csv": "k,n\n"}, r"b\.csv: lacks the column 'm' of .*a\.csv and has 'n'"),
        ({"a__csv": "k\n", "b__csv": "k,m\n"}, r"b\.csv: has a column 'm', which .*a\.csv does not have"),
        ({"a__csv": "k,m\n", "b__csv": "m,k\n"}, r"b\.csv: has the columns of .*a\.csv in another order"),
        (
            {"a__csv": "k\n1\n", "b__jsonl": '{"k": 1}\n'},
            r"b\.jsonl: is JSON, and .*a\.csv is CSV; the parts of a table",
        ),
        ({"a__csv": "k\n1\n", "b__md": "# b\n"}, r"b\.md: unknown file extension"),
        ({"a__csv": "k\n1\n", "b__parquet": ""}, r"b\.parquet: is empty"),
    ],
)
def test_parts_that_do_not_fit(tmp_path: Path, files: dict[str, str | bytes], message: str) -> None:
    """One line names the part and its difference."""
    with pytest.raises(InputError, match=message):
        open_source(written(tmp_path / "in", **files), ReadOptions())


def test_a_bad_row_is_named_with_its_part(tmp_path: Path) -> None:
    """The message for a row has the part and the physical line in it."""
    source = open_source(written(tmp_path / "in", a__csv="k,m\n1,2\n", b__csv="k,m\n1,2\n3\n"), ReadOptions())
    with pytest.raises(InputError, match=r"in/b\.csv, line 3: expected 2 cells"):
        validate(source)


def test_folders_are_not_parts(tmp_path: Path) -> None:
    """A folder in the folder is refused with the pattern to give; a pattern that fits nothing too."""
    folder = csv_parts(tmp_path)
    (folder / "year=2026").mkdir()
    with pytest.raises(InputError, match=r"year=2026: is a folder, and parts are files; try '.*in/\*/\*\.csv'"):
        open_source(folder, ReadOptions())
    with pytest.raises(InputError, match=r"in/\*\.parquet: no file fits the pattern"):
        open_source(f"{folder}/*.parquet", ReadOptions())


def test_a_file_with_the_name_of_a_pattern(tmp_path: Path) -> None:
    """A file whose name has brackets is that file."""
    path = written(tmp_path / "in", **{"q[1]__csv": "k\n1\n"}) / "q[1].csv"
    assert not is_parts(str(path))
    assert validate(open_source(path, ReadOptions())) == 1


@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_columns_of_nulls_have_the_type_of_the_others(tmp_path: Path, kind: str) -> None:
    """Arrow's types are kept, and a part in which a column is empty takes its type from the others."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, table in (
        ("0", pa.table({"k": pa.array([1], pa.int8()), "m": pa.nulls(1)})),
        ("1", pa.table({"k": pa.array([2], pa.int8()), "m": pa.array([[b"x"]])})),
    ):
        write = pq.write_table if kind == "parquet" else feather.write_feather
        write(table, folder / f"{name}.{kind}")
    source = open_source(folder, ReadOptions())
    assert rows(source)[0][2] == f"row 0 (in 0.{kind})"
    output = tmp_path / "out.parquet"
    cells = (dict.fromkeys(OUTPUT_COLUMNS) for _ in range(2))
    assert write_table(output, source, cells, WriteOptions()) == 2
    found = pq.read_table(output)
    assert (found["k"].type, found["m"].type) == (pa.int8(), pa.list_(pa.binary()))
    assert found.select(["k", "m"]).to_pylist() == [{"k": 1, "m": None}, {"k": 2, "m": [b"x"]}]


def test_types_that_differ(tmp_path: Path) -> None:
    """A column of another type is refused with both types and both parts."""
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(pa.table({"k": [1]}), folder / "0.parquet")
    pq.write_table(pa.table({"k": ["1"]}), folder / "1.parquet")
    with pytest.raises(InputError, match=r"1\.parquet: column 'k' is string, and int64 in .*0\.parquet; write all"):
        open_source(folder, ReadOptions())


def test_json_lines_keep_their_text(tmp_path: Path) -> None:
    """A JSON Lines output has every digit and no further keys, and combinations repeat the rows."""
    folder = written(tmp_path / "in", a__jsonl='{"k": 1.50}\n', b__jsonl='{"m": 2}\n')
    source = expand(open_source(folder, ReadOptions()), [{"epoch": 1}, {"epoch": 2}])
    cells = (dict.fromkeys(OUTPUT_COLUMNS) for _ in range(4))
    assert write_table(tmp_path / "out.jsonl", source, cells, WriteOptions()) == 4
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert lines[0].startswith('{"k": 1.50,"epoch":1')
    assert json.loads(lines[3])["m"] == 2
    assert "k" not in json.loads(lines[3])
    assert [row.where for row in source.rows()] == ["line 1 of a.jsonl"] * 2 + ["line 1 of b.jsonl"] * 2


def test_csv_output_has_the_dialect_of_the_parts(tmp_path: Path) -> None:
    """The delimiter of the parts is that of the output."""
    source = open_source(written(tmp_path / "in", a__csv="k;m\n1;2\n", b__csv="k;m\n3;4\n"), ReadOptions())
    write_table(tmp_path / "o.csv", source, (dict.fromkeys(OUTPUT_COLUMNS) for _ in range(2)), WriteOptions())
    assert [line[:4] for line in (tmp_path / "o.csv").read_text().splitlines()] == ["k;m;", "1;2;", "3;4;"]


def test_changes_are_noticed(tmp_path: Path) -> None:
    """A changed, an added and a removed part change the table; a touched one does not."""
    folder = csv_parts(tmp_path)
    source = open_source(folder, ReadOptions())
    before = source.fingerprint()
    assert open_source(f"{folder}/*.csv", ReadOptions()).fingerprint() == before
    watch = InputWatch(source)
    (folder / "a.csv").write_text("id,q\n1,x\n")
    written(folder, _SUCCESS="")
    assert not watch.changed()
    for change in ({"a__csv": "id,q\n1,w\n"}, {"d__csv": "id,q\n"}):
        watch = InputWatch(source)
        written(folder, **change)
        assert watch.changed_before_row()
    watch = InputWatch(source)
    (folder / "d.csv").unlink()
    assert watch.changed()
    (folder / "d.csv").write_text("id,q\n")
    (folder / "d.csv").rename(folder / "e.csv")
    assert watch.changed()


def test_a_look_at_many_parts_is_shared_by_rows(tmp_path: Path) -> None:
    """A table of many parts is not looked at for every row."""
    folder = written(tmp_path / "in", **{f"p{number:03}__csv": "k\n" for number in range(100)})
    watch = InputWatch(open_source(folder, ReadOptions()))
    written(folder, p000__csv="k\n1\n")
    assert [watch.changed_before_row() for _ in range(13)] == [False] * 12 + [True]


def test_the_output_must_not_become_a_part(tmp_path: Path) -> None:
    """An output that would be read as a part the next time is refused; another name or folder is not."""
    folder = csv_parts(tmp_path)
    for name in (str(folder), f"{folder}/*.csv"):
        source = open_source(name, ReadOptions())
        with pytest.raises(InputError, match="the output would be a part of the input"):
            check_output(folder / "o.csv", source, WriteOptions())
        with pytest.raises(InputError, match="the output is the input file"):
            check_output(folder / "a.csv", source, WriteOptions())
        check_output(folder / "_o.csv", source, WriteOptions())
        check_output(tmp_path / "o.csv", source, WriteOptions())
    assert would_be_part(folder / "x" / "o.csv", f"{tmp_path}/**/*.csv")


@pytest.mark.parametrize(
    ("pattern", "first", "expected"),
    [
        ("in", "part-0.csv", "in.csv"),
        ("in/", "part-0.c000.snappy.parquet", "in.parquet"),
        ("in/*", "part-0.jsonl.zst", "in.jsonl.zst"),
        ("in/*.dat", "x.dat", "in.csv"),
        ("i*/*.csv", "x.csv", "parts.csv"),
    ],
)
def test_default_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, first: str, expected: str
) -> None:
    """The default output has the folder's name and the parts' format."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "in", **{first: "k\n1\n"})
    assert default_name(pattern) == expected


def test_a_folder_with_an_ending_keeps_its_name(tmp_path: Path) -> None:
    """Files about the folder `answers.parquet` are named as those about a file of that name."""
    written(tmp_path / "answers.parquet", **{"part-00000.parquet": "k\n1\n"})
    assert default_name(str(tmp_path / "answers.parquet")) == "answers.parquet"
    assert default_scored(f"{tmp_path}/answers.parquet/") == tmp_path / "answers.scored.parquet"
