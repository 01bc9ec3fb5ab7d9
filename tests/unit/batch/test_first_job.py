"""First job files: they run unchanged over any table, and every comment in them is true."""

from __future__ import annotations

import csv
import json
import os
import re
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from batchrun.batch.first_job import first_job, key_help, write_new
from batchrun.errors import OutputError
from batchrun.job.file import load_job_file
from batchrun.job.options import job_options
from batchrun.job.validation import make_job
from batchrun.scoring.score_options import make_score_options
from batchrun.tables import ReadOptions, open_source
from tests.support.command import batchrun

QUESTIONS = "id,question,answer\n7,1+1,2\n8,2+2,4\n"


def job_of(folder: Path, text: str, name: str = "q.csv", *, every_option: bool = False) -> str:
    """Return the first job file for a table."""
    (folder / name).write_text(text, encoding="utf-8")
    source = open_source(folder / name, ReadOptions())
    return first_job(source, name, ReadOptions(), "q.toml", every_option=every_option)


def commented(text: str) -> list[str]:
    """Return the lines that are off."""
    return [line[2:] for line in text.splitlines() if re.match(r"# ([a-z_]+ = |\[)", line)]


def test_a_first_job_runs_as_it_is(tmp_path: Path) -> None:
    """init, check and run follow each other without an edit."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "my table.csv").write_text("id,question\n1,1+1\n", encoding="utf-8")
    written = batchrun(tmp_path, "init", "data/my table.csv", "-o", "night job.toml")
    assert written.returncode == 0
    assert written.stderr == "written: night job.toml; next: batchrun check 'night job.toml'\n"
    checked = batchrun(tmp_path, "check", "night job.toml")
    assert checked.returncode == 0
    assert not (tmp_path / "outputs").exists()
    assert batchrun(tmp_path, "run", "night job.toml").returncode == 0
    assert "1 + 1 = 2." in (tmp_path / "outputs" / "my table.csv").read_text(encoding="utf-8")


def test_the_file_is_short(tmp_path: Path) -> None:
    """A table with a key and an expected answer gives at most 36 lines, each at most 110 characters."""
    lines = job_of(tmp_path, QUESTIONS).splitlines()
    assert len(lines) <= 36
    assert max(map(len, lines)) <= 110


def test_all_shows_every_option_to_be_uncommented(tmp_path: Path) -> None:
    """With --all each option is a key or a commented line, with a value that the job accepts."""
    text = job_of(tmp_path, "question\n1+1\n", every_option=True)
    found: dict[str, Any] = {}
    for line in commented(text):
        found |= tomllib.loads(line)
        make_job(tomllib.loads(line))
    assert found.keys() | {"prompt"} == job_options().keys()


@pytest.mark.parametrize("every_option", [False, True])
def test_each_line_can_be_uncommented(tmp_path: Path, *, every_option: bool) -> None:
    """Without its #, each option and the table [score] are valid where they are in the file."""
    text = job_of(tmp_path, QUESTIONS, every_option=every_option)
    for line in commented(text):
        if line.startswith(("[", "scorer", "target")):
            continue
        edited = text.replace(f"# {line}", line)
        if line.startswith(("turns", "messages")):  # their comments say that they take the place of the prompt
            edited = edited.replace('\nprompt = "{{ question }}"', "")
        (tmp_path / "job.toml").write_text(edited, encoding="utf-8")
        assert line.partition(" = ")[0] in load_job_file(tmp_path / "job.toml", {"TEAM": "t", "PING_URL": "u"})[1]
    score = tomllib.loads(
        text.replace("# [score]", "[score]").replace("# scorer", "scorer").replace("# target", "target")
    )
    assert make_score_options(score["score"], "score").target == "answer"


def test_a_table_of_conversations_has_no_prompt(tmp_path: Path) -> None:
    """The first job of a table with conversations names their column, and the rows are asked as such."""
    cell = '[{""role"": ""system"", ""content"": ""Be short""}, {""role"": ""user"", ""content"": ""1+1?""}]'
    job = tomllib.loads(job_of(tmp_path, f'id,messages,target\n1,"{cell}",2\n'))
    assert job["messages"] == "messages"
    assert "prompt" not in job
    mixed = job_of(tmp_path, f'prompt\n1+1?\n"{cell}"\n', name="mixed.csv")
    assert tomllib.loads(mixed).keys().isdisjoint({"messages", "prompt"})


def test_its_texts_are_those_of_a_job_file() -> None:
    """No text of a key speaks of flags, of repeating them, or of where else the option can be given."""
    for name in job_options():
        assert not re.search(r"--|[Rr]epeat it|[Rr]epeated|Python only|KEY=VALUE", key_help(name)), name
    assert "`poll`" in key_help("stream") or " poll " in key_help("stream")


@pytest.mark.parametrize(
    ("table", "prompt"),
    [
        ("id,question\n1,a\n", "{{ question }}"),
        ("id,Question\n1,a\n", "{{ Question }}"),
        ("text\na\n", "{{ text }}"),
        ("name,text,note\nAnn,a long text,b\n", "{{ text }}"),
        ("name,price\nAnn,123456789.5\n", "{{ name }}"),
        ("question,text\n,a\n", "{{ text }}"),
        ("ask,answer\nWhy?,because it is a long answer\n", "{{ ask }}"),
        ("Full text,n\nabc,1\n", "{{ row['Full text'] }}"),
        ("it's,n\nabc,1\n", '{{ row["it\'s"] }}'),
        ("not,n\nabc,1\n", "{{ row['not'] }}"),
        ("row,n\nabc,1\n", "{{ row }}"),
        ("row,long text\nabc,abcdef\n", "{{ row }}"),
    ],
)
def test_the_prompt_is_the_longest_text(tmp_path: Path, table: str, prompt: str) -> None:
    """The prompt is the column `prompt` or `question`, otherwise the longest text that a template can name."""
    assert tomllib.loads(job_of(tmp_path, table))["prompt"] == prompt


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("id,question\n1,a\n2,b\n", "id"),
        ("question,Task ID\na,x-1\nb,x-2\n", "Task ID"),
        ("id,question\n1,a\n1,b\n", None),
        ("id,question\n1,a\n,b\n", None),
        ("id,question\nmy first,a\nmy second,b\n", None),
        ("year,question\n1999,a\n2000,b\n", None),
        ("question\na\nb\n", None),
        ("answer_id,question,score_id\n0.5,a,1\n0.25,b,1\n", "answer_id"),
    ],
)
def test_the_key_is_a_column_of_unique_ids(tmp_path: Path, table: str, key: str | None) -> None:
    """A column is the key if its name says so and no cell is empty, repeated or a text of several words."""
    assert tomllib.loads(job_of(tmp_path, table)).get("key") == key


def test_another_unique_column_is_proposed_as_the_key(tmp_path: Path) -> None:
    """A column whose name is not that of an id is only proposed, in a comment."""
    text = job_of(tmp_path, "year,question\n1999,a\n2000,b\n")
    assert '# key = "year"' in text.splitlines()


@pytest.mark.parametrize(
    ("table", "scorer", "target"),
    [
        (QUESTIONS, "numeric", "answer"),
        ("question,Expected answer\na,yes\n", "includes", "Expected answer"),
        ("question,target\na,B\nb,c\n", "choice", "target"),
        ("question,answer\na,\nb,\n", None, None),
        ("answer\na\n", None, None),
    ],
)
def test_an_expected_answer_is_proposed_for_scoring(
    tmp_path: Path, table: str, scorer: str | None, target: str | None
) -> None:
    """A column that is named as an expected answer gives a commented [score] whose scorer fits its values."""
    text = job_of(tmp_path, table)
    assert tomllib.loads(text).keys() <= {"input", "prompt", "key"}
    found = tomllib.loads("\n".join(line for line in commented(text) if line.startswith(("scorer", "target"))))
    assert (found.get("scorer"), found.get("target")) == (scorer, target)


def test_the_options_that_read_the_table_are_in_the_file(tmp_path: Path) -> None:
    """A table that needs --encoding and --delimiter gets a job file that names them."""
    (tmp_path / "q.csv").write_bytes("id/question\n1/wie hoch ist der Zürichberg?\n".encode("cp1252"))
    assert batchrun(tmp_path, "init", "q.csv").returncode == 2
    assert batchrun(tmp_path, "init", "q.csv", "--encoding", "cp1252", "--delimiter", "/").returncode == 0
    assert tomllib.loads((tmp_path / "q.toml").read_text(encoding="utf-8"))["encoding"] == "cp1252"
    assert batchrun(tmp_path, "check", "q.toml").returncode == 0
    (tmp_path / "r.csv").write_text("a title\nid,question\n1,1+1\n", encoding="utf-8")
    assert batchrun(tmp_path, "init", "r.csv", "--skip-rows", "1").returncode == 0
    assert tomllib.loads((tmp_path / "r.toml").read_text(encoding="utf-8"))["skip_rows"] == 1
    assert batchrun(tmp_path, "check", "r.toml").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("-",), "not standard input"),
        (("q.csv", "-o", "q.txt"), "ends with .toml"),
        (("gone.csv",), "no such file"),
        (("odd.jsonl",), "no template can name its columns"),
        ((os.fsdecode(b"\xff.csv"),), "not valid Unicode"),
    ],
)
def test_what_no_job_file_can_hold_is_refused(tmp_path: Path, arguments: tuple[str, ...], problem: str) -> None:
    """A table without a name, or with names that are not Unicode, gets one clear line."""
    for name in (b"q.csv", b"\xff.csv"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text("question\n1+1\n", encoding="utf-8")
    (tmp_path / "odd.jsonl").write_text('{"\\ud800": "x"}\n', encoding="utf-8")
    result = batchrun(tmp_path, "init", *arguments)
    assert result.returncode == 2
    assert problem in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("*.toml"))


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    """An existing file is left alone."""
    path = tmp_path / "job.toml"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="already exists"):
        write_new(path, "yours")
    assert path.read_text(encoding="utf-8") == "mine"


NAMES = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n\ufeff"), min_size=1, max_size=12)
    | st.text(st.sampled_from("'\"\\{}%#.$`[] é\u2028\x7f\x1b😀"), min_size=1, max_size=8)
    | st.sampled_from(["row", "not", "self", "loop", "true", "dict", "id", "prompt", "answer", "response", "status"])
)
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    """Return names of columns and rows that hold some text."""
    header = draw(st.lists(NAMES.filter(str.strip), min_size=1, max_size=5, unique=True))
    row = st.lists(CELLS, min_size=len(header), max_size=len(header))
    return header, [["a text"] * len(header), *draw(st.lists(row, max_size=4))]


def write_table(path: Path, header: list[str], rows: list[list[str]], delimiter: str) -> None:
    if path.suffix == ".parquet":
        pq.write_table(
            pa.table({name: list(cells) for name, cells in zip(header, zip(*rows, strict=True), strict=True)}), path
        )
    elif path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(header, row, strict=True))) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else delimiter).writerows([header, *rows])


@settings(max_examples=12, deadline=None)  # no example is timed: each of them makes a plan
@given(tables(), st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]), st.sampled_from(",;|"), st.booleans())
@example((["row", "a b"], [["x", "a longer text"]]), ".csv", ";", False)
@example((["response", "answer_status", "status"], [["x", "y", "z"]]), ".csv", ",", True)
@example(([f"column {i}" for i in range(3_000)], [["x"] * 3_000] * 2), ".csv", ",", True)
def test_the_job_of_any_table_can_be_run(
    table: tuple[list[str], list[list[str]]], ending: str, delimiter: str, every_option: bool
) -> None:
    """Whatever the columns are named, `init` writes a file that a dry run accepts without a problem."""
    header, rows = table
    # A CSV of one column cannot show that a mark in its name is not the delimiter.
    assume(ending != ".csv" or len(header) > 1 or not set(header[0]) & set(",;|\t"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder / f"in{ending}", header, rows, delimiter)
        written = batchrun(folder, "init", f"in{ending}", *(["--all"] if every_option else []))
        assert written.returncode == 0, written.stderr
        dry = batchrun(folder, "run", "in.toml", "--dry-run", "--json")
        assert dry.stdout, (dry.stderr, (folder / "in.toml").read_text(encoding="utf-8"))
        assert not dry.facts()["problems"]
        assert dry.facts()["unaskable"].keys() <= {"empty_prompt"}


@pytest.mark.parametrize("name", ["row", "it's", "a }} b", "status"])
def test_the_prompt_is_the_cell_whatever_its_column_is_named(tmp_path: Path, name: str) -> None:
    """The batch that `init` wrote sends the cells of the column as they are."""
    write_table(tmp_path / "in.jsonl", [name], [["12 * 12"]], ",")
    assert batchrun(tmp_path, "init", "in.jsonl").returncode == 0
    assert batchrun(tmp_path, "run", "in.toml").returncode == 0
    assert "144" in (tmp_path / "outputs" / "in.jsonl").read_text(encoding="utf-8")
