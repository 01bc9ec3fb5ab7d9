"""Tables whose first line is a row: every command that reads a CSV has `--no-header`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import batchrun
from tests.support.rows import read_csv

ANSWERED = "1,5,5\n2,20,21\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "q.csv").write_text("1,What is 2+3?\n2,What is 4*5?\n")
    (tmp_path / "answered.csv").write_text(ANSWERED)
    (tmp_path / "other.csv").write_text(ANSWERED.replace("21", "20"))
    return tmp_path


def test_a_batch(folder: Path) -> None:
    """Both rows are answered, the output has a header, and export finds the rows again."""
    done = batchrun(
        folder, "run", "q.csv", "--no-header", "--prompt", "{{ column_2 }}", "--key", "column_1", "-o", "a.csv"
    )
    assert done.returncode == 0, done.stderr
    rows = [(row["column_1"], row["column_2"], row["response"]) for row in read_csv(folder / "a.csv")]
    assert rows == [("1", "What is 2+3?", "2 + 3 = 5."), ("2", "What is 4*5?", "4 * 5 = 20.")]
    (folder / "a.csv").unlink()
    assert batchrun(folder, "export", "a.csv").returncode == 0
    assert len(read_csv(folder / "a.csv")) == 2


def test_standard_input(folder: Path) -> None:
    """A list of questions can be piped in."""
    done = batchrun(folder, "run", "-", "--no-header", "--quiet", stdin="What is 2+3?\n")
    assert done.returncode == 0, done.stderr
    assert [row["response"] for row in read_csv(folder / "outputs/stdin.csv")] == ["2 + 3 = 5."]


def test_a_first_job_file(folder: Path) -> None:
    """`init` writes the option into the job file, which then runs."""
    assert batchrun(folder, "init", "q.csv", "--no-header").returncode == 0
    assert "\nno_header = true\n" in (folder / "q.toml").read_text()
    checked = batchrun(folder, "check", "q.toml")
    assert "2 rows of q.csv" in checked.stdout


def test_scores(folder: Path) -> None:
    """`score`, `compare` and `report` name the generated columns."""
    scoring = ("--no-header", "--scorer", "exact", "--answer", "column_2", "--target", "column_3")
    assert "of 2 rows" in batchrun(folder, "score", "answered.csv", *scoring).stdout
    compared = batchrun(folder, "compare", "answered.csv", "other.csv", *scoring, "--key", "column_1")
    assert compared.returncode == 0, compared.stderr
    reported = batchrun(folder, "report", "answered.csv", *scoring)
    assert reported.returncode == 0, reported.stderr


def test_conversion(folder: Path) -> None:
    """`convert` carries the first row over."""
    done = batchrun(folder, "convert", "answered.csv", "answered.jsonl", "--no-header")
    assert "2 rows written" in done.stderr
    assert '"column_1":"1"' in (folder / "answered.jsonl").read_text().splitlines()[0]
