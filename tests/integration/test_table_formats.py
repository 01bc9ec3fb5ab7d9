"""The tables that people have, from the command line: each is answered, or refused with what to do."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest

import batchrun as library
from batchrun.tables import ReadOptions, open_source
from tests.support.command import batchrun
from tests.support.rows import read_csv

QUESTIONS = ["What is 1+1?", "What is 2+2?"]
ANSWERS = ["1 + 1 = 2.", "2 + 2 = 4."]
CSV = "question\n" + "\n".join(QUESTIONS) + "\n"


def workbook(path: Path) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    for line in (["id", "question"], [1, QUESTIONS[0]], [2, QUESTIONS[1]]):
        book.active.append(line)
    book.save(path)


def written(text: str) -> Callable[[Path], Any]:
    return lambda path: path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "write", "output"),
    [
        ("q.csv", written(CSV), "q.csv"),
        ("q.csv.gz", lambda path: path.write_bytes(gzip.compress(CSV.encode())), "q.csv.gz"),
        ("q.csv.xz", lambda path: path.write_bytes(lzma.compress(CSV.encode())), "q.csv.xz"),
        ("q.txt", written("\n\n".join(QUESTIONS)), "q.csv"),
        ("q.json", written(json.dumps([{"question": each} for each in QUESTIONS], indent=1)), "q.json"),
        ("q.jsonl", written(json.dumps([{"question": each} for each in QUESTIONS])), "q.jsonl"),
        ("q.xlsx", workbook, "q.xlsx"),
        ("q.csv", workbook, "q.csv"),
        ("excel.csv", written("sep=;\nid;question\n1;What is 1+1?\n2;What is 2+2?\n"), "excel.csv"),
        ("pandas.csv", written(",question\n0,What is 1+1?\n1,What is 2+2?\n"), "pandas.csv"),
        ("trailing.csv", written("id,question,\n1,What is 1+1?,\n2,What is 2+2?,\n"), "trailing.csv"),
        ("title.csv", written("Export,,\nid,question,x\n1,What is 1+1?,2\n2,What is 2+2?,3\n"), "title.csv"),
        ("comments.csv", written("# by X\nid,question\n1,What is 1+1?\n2,What is 2+2?\n"), "comments.csv"),
    ],
)
def test_what_people_have(tmp_path: Path, name: str, write: Callable[[Path], Any], output: str) -> None:
    """The default output has the input's format, each row is answered, and the same command sends nothing again."""
    write(tmp_path / name)
    done = batchrun(tmp_path, "run", name)
    assert done.returncode == 0, done.stderr
    source = open_source(tmp_path / "outputs" / output, ReadOptions())
    assert [row.values["response"] for row in source.rows()] == ANSWERS
    again = batchrun(tmp_path, "run", name, "--json")
    assert again.facts()["this_run"]["asked"] == 0


@pytest.mark.parametrize("name", ["q.csv", "q.jsonl"])
def test_standard_input_in_another_format(tmp_path: Path, name: str) -> None:
    """--format names the format of standard input; export and show read the copy with it."""
    text = "".join(json.dumps({"question": each}) + "\n" for each in QUESTIONS)
    done = batchrun(tmp_path, "run", "-", "--format", "jsonl", "-o", name, stdin=text)
    assert done.returncode == 0, done.stderr
    (tmp_path / name).unlink()
    assert batchrun(tmp_path, "export", name).returncode == 0
    assert [row.values["response"] for row in open_source(tmp_path / name, ReadOptions()).rows()] == ANSWERS


@pytest.mark.parametrize(("name", "content"), [("q.csv", "id,question\n"), ("q.json", "[]"), ("q.txt", "\n")])
def test_a_table_without_rows(tmp_path: Path, name: str, content: str) -> None:
    """A nightly job that finds nothing to do ends well, with an output that has only the header."""
    (tmp_path / name).write_text(content)
    done = batchrun(tmp_path, "run", name, "-o", "a.csv", "--json")
    assert done.returncode == 0, done.stderr
    assert done.facts()["rows"] == 0
    assert read_csv(tmp_path / "a.csv") == []
    assert ",response,status," in "," + (tmp_path / "a.csv").read_text()


def test_rows_that_come_later(tmp_path: Path) -> None:
    """A batch that had no rows is continued when the table has some."""
    (tmp_path / "q.csv").write_text("question\n")
    assert batchrun(tmp_path, "run", "q.csv").returncode == 0
    (tmp_path / "q.csv").write_text(CSV)
    assert batchrun(tmp_path, "run", "q.csv", "--json").facts()["completed"] == 2


def test_a_frame_without_rows() -> None:
    """An empty frame comes back with the columns of the outcomes."""
    import pandas as pd

    answers = library.run(pd.DataFrame({"question": pd.Series([], dtype="str")}))
    assert len(answers) == 0
    assert [*answers.columns][:3] == ["question", "response", "status"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("What is 1+1?\nWhat is 2+2?\n", "add --no-header"),
        ("# My prompts\nquestion\nWhat is 2+2?\n", "add --skip-rows 1"),
        ("Report\nid,question\n1,What is 1+1?\n", "add --skip-rows 1"),
    ],
)
def test_a_header_that_may_be_a_prompt(tmp_path: Path, content: str, expected: str) -> None:
    """The only column is not taken for the prompt if its name looks like one; what the message says works."""
    (tmp_path / "q.csv").write_text(content)
    refused = batchrun(tmp_path, "run", "q.csv")
    assert refused.returncode == 2
    assert expected in refused.stderr
    assert batchrun(tmp_path, "run", "q.csv", *expected.split()[1:], "--constant-prompt").returncode == 0
    name = content.partition("\n")[0]
    prompt = f"--prompt={{{{ row[{name!r}] }}}}"
    assert batchrun(tmp_path, "run", "q.csv", prompt, "-o", "b.csv").returncode == 0


def test_error_cells_are_not_asked(tmp_path: Path) -> None:
    """A row whose prompt is #N/A fails without a request, and another column with an error does not matter."""
    book = openpyxl.Workbook()
    assert book.active is not None
    for line in (["question", "note"], ["#N/A", "x"], ["What is 1+1?", "#REF!"]):
        book.active.append(line)
    book.active["A2"].data_type = book.active["B3"].data_type = "e"
    book.save(tmp_path / "q.xlsx")
    done = batchrun(tmp_path, "run", "q.xlsx", "-o", "a.csv")
    assert done.returncode == 3
    first, second = read_csv(tmp_path / "a.csv")
    assert (first["status"], first["error_type"], first["question"]) == ("failed", "error_cell", "#N/A")
    assert (second["response"], second["note"]) == ("1 + 1 = 2.", "#REF!")


def test_csv_for_a_spreadsheet(tmp_path: Path) -> None:
    """--output-delimiter and --bom write what Excel opens in its own language; scores read it again."""
    (tmp_path / "q.csv").write_text("question,answer\nWhat is 1+1?,2\n")
    done = batchrun(tmp_path, "run", "q.csv", "-o", "a.csv", "--output-delimiter", ";", "--bom")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.csv").read_bytes().startswith("\ufeffquestion;answer;response;".encode())
    assert batchrun(tmp_path, "export", "a.csv", "-o", "b.csv").returncode == 0
    assert (tmp_path / "b.csv").read_bytes().startswith("\ufeffquestion;answer;response;".encode())
    scored = batchrun(tmp_path, "score", "a.csv", "--target", "answer", "--scorer", "numeric")
    assert "of 1 row" in scored.stdout, scored.stderr
    refused = batchrun(tmp_path, "run", "q.csv", "-o", "c.jsonl", "--output-delimiter", ";")
    assert (refused.returncode, "--output-delimiter is for .csv only" in refused.stderr) == (2, True)


def test_answers_that_are_formulas_are_counted(tmp_path: Path) -> None:
    """A CSV that a spreadsheet would run says so, and what to do; a safe one and a workbook do not."""
    (tmp_path / "q.csv").write_text("question\na\nb\n")
    (tmp_path / "s.toml").write_text('[default]\nreply = "=1+1"\n')
    told = "2 answers begin with =, which a spreadsheet runs as a formula: --safe-csv or an .xlsx output keeps the text"
    for name, options, is_told in (("a.csv", (), True), ("b.csv", ("--safe-csv",), False), ("c.xlsx", (), False)):
        done = batchrun(tmp_path, "run", "q.csv", "--script", "s.toml", "-o", name, *options)
        assert done.returncode == 0, done.stderr
        assert (told in done.stderr) is is_told


@pytest.mark.parametrize(
    ("name", "text", "options", "told"),
    [
        ("q.json", '{"data": [{"question": "a"}, {"question": "b"}]}', (), "whose 'data' is a list of 2 objects"),
        ("q.csv", CSV, ("--skip-rows", "99"), "--skip-rows 99 leaves no line; a table needs a header"),
        ("q.csv", CSV, ("--format", "xlsx"), "is text, or damaged; --format xlsx does not fit"),
    ],
)
def test_a_table_that_is_not_what_it_seems(
    tmp_path: Path, name: str, text: str, options: tuple[str, ...], told: str
) -> None:
    """An object around the rows, a number of lines beyond the file and a format that does not fit are refused so."""
    (tmp_path / name).write_text(text)
    done = batchrun(tmp_path, "run", name, *options)
    assert done.returncode == 2
    assert told in done.stderr
