"""An output that is a folder of parts: its files, and the state of the folder after a failure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import InputError, OutputError
from batchrun.tables import ReadOptions, Source, WriteOptions, check_output, open_source, sink, write_table
from batchrun.tables.atomic import replacing_folder

Outcomes = Callable[..., Iterator[dict[str, Any]]]
PART_ROWS = 1_000
"""Rows of a part in these tests: the loop that begins the next part is the same for a hundred times as many."""
ENDINGS = [".csv", ".tsv.gz", ".jsonl.zst", ".json", ".parquet", ".feather"]


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "PART_ROWS", PART_ROWS)


def numbers(folder: Path, rows: int, ending: str = ".csv") -> Source:
    """Return a table whose only column counts its rows."""
    path = folder / f"q{ending}"
    lines = (json.dumps({"n": str(n)}) if ending == ".jsonl" else str(n) for n in range(rows))
    path.write_text("\n".join([*(["n"] if ending == ".csv" else []), *lines, ""]))
    return open_source(path, ReadOptions())


def files(folder: Path) -> list[str]:
    """Return the names in a folder."""
    return sorted(path.name for path in folder.iterdir())


def cells(outcomes: Outcomes, rows: int) -> Iterator[dict[str, Any]]:
    """Return outcomes with the same number as their row."""
    return outcomes(*(f"answer {n}" for n in range(rows)))


@pytest.mark.parametrize("ending", ENDINGS)
def test_parts_are_a_table_in_input_order(tmp_path: Path, outcomes: Outcomes, ending: str) -> None:
    """A part has a bounded number of rows, and the folder is read as one table with every row in its order."""
    source = numbers(tmp_path, PART_ROWS + 3, ".jsonl" if "j" in ending else ".csv")
    folder = tmp_path / "answers"
    write = WriteOptions(parts=ending)
    check_output(folder, source, write)
    assert write_table(folder, source, cells(outcomes, PART_ROWS + 3), write) == PART_ROWS + 3
    assert files(folder) == ["_SUCCESS", f"part-00000{ending}", f"part-00001{ending}"]
    assert json.loads((folder / "_SUCCESS").read_text()) == {
        "written_by": "batchrun",
        "parts": 2,
        "rows": PART_ROWS + 3,
    }
    assert sum(1 for _ in open_source(folder / f"part-00001{ending}", ReadOptions()).rows()) == 3
    rows = ((row.values["n"], row.values["response"]) for row in open_source(folder, ReadOptions()).rows())
    assert list(rows) == [(str(n), f"answer {n}") for n in range(PART_ROWS + 3)]
    check_output(folder, source, write)
    short = numbers(tmp_path, 1)
    write_table(folder, short, cells(outcomes, 1), write)
    assert files(folder) == ["_SUCCESS", f"part-00000{ending}"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(("rows", "parts"), [(0, 1), (PART_ROWS, 1)])
def test_the_number_of_parts(tmp_path: Path, outcomes: Outcomes, ending: str, rows: int, parts: int) -> None:
    """A table without rows has one part with its columns; a part that is exactly full is the last one."""
    source = numbers(tmp_path, rows)
    write_table(tmp_path / "a", source, cells(outcomes, rows), WriteOptions(parts=ending))
    assert len(files(tmp_path / "a")) == parts + 1
    with pytest.raises(ValueError, match=r"longer|more outcomes"):
        write_table(tmp_path / "a", source, cells(outcomes, rows + 1), WriteOptions(parts=ending))
    assert json.loads((tmp_path / "a" / "_SUCCESS").read_text())["rows"] == rows
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "q.csv"]


def test_nothing_of_others_is_replaced(tmp_path: Path, outcomes: Outcomes) -> None:
    """A folder with another file, the folder of the input, and a file at the place are refused; hidden files are not."""
    source, write = numbers(tmp_path, 1), WriteOptions(parts=".csv")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".DS_Store").touch()
    check_output(tmp_path / "a", source, write)
    write_table(tmp_path / "a", source, cells(outcomes, 1), write)
    (tmp_path / "a" / "mine.csv").touch()
    with pytest.raises(OutputError, match=r"a: this folder has files that batchrun has not written, such as mine\.csv"):
        check_output(tmp_path / "a", source, write)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "part-00000.csv").touch()
    with pytest.raises(OutputError, match=r"such as part-00000\.csv"):
        check_output(tmp_path / "b", source, write)
    (tmp_path / "c").touch()
    with pytest.raises(OutputError, match=r"c: is a file; expected a folder"):
        check_output(tmp_path / "c", source, write)
    (tmp_path / "a" / "mine.csv").unlink()
    part = open_source(tmp_path / "a" / "part-00000.csv", ReadOptions())
    with pytest.raises(InputError, match="a: the output is the folder of the input"):
        check_output(tmp_path / "a", part, WriteOptions(parts=".csv", prefix="x_"))


def test_a_writer_that_was_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    """The next writer removes the hidden folder of a killed one, but not that of one that still writes."""
    with replacing_folder(tmp_path / "a") as running:
        (running / "part-00000.csv").touch()
        killed = running.with_name(f"{running.name[:30]}0.tmp")
        killed.mkdir()
        (killed / "part-00000.csv").touch()
        with replacing_folder(tmp_path / "a") as second:
            (second / "second").touch()
        assert not killed.exists()
        assert running.exists()
    assert files(tmp_path / "a") == ["part-00000.csv"]
    with pytest.raises(RuntimeError), replacing_folder(tmp_path / "a"):
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert files(tmp_path / "a") == ["part-00000.csv"]
