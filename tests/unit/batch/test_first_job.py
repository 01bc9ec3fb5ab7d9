"""First job files: they run unchanged, and every comment in them is true."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from batchrun.batch.first_job import first_job, write_new
from batchrun.errors import OutputError
from batchrun.job.options import job_options
from batchrun.job.validation import make_job
from tests.support.command import batchrun


def test_a_first_job_runs_as_it_is(tmp_path: Path) -> None:
    """init, check and run follow each other without an edit."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "my table.csv").write_text("id,question\n1,1+1\n", encoding="utf-8")
    assert batchrun(tmp_path, "init", "data/my table.csv", "-o", "night.toml").returncode == 0
    checked = batchrun(tmp_path, "check", "night.toml")
    assert checked.returncode == 0
    assert "night.toml: 1 row of" in checked.stdout
    assert not (tmp_path / "outputs").exists()
    assert batchrun(tmp_path, "run", "night.toml").returncode == 0
    assert "1 + 1 = 2." in (tmp_path / "outputs" / "my table.csv").read_text(encoding="utf-8")


def test_it_has_every_option_to_be_uncommented() -> None:
    """Each commented line is a key of a job, with a value that the job accepts."""
    text = first_job("q.csv", ["question"])
    commented = [line[2:] for line in text.splitlines() if re.match(r"# [a-z_]+ = ", line)]
    found: dict[str, Any] = {}
    for line in commented:
        found |= tomllib.loads(line)
        make_job(tomllib.loads(line))
    assert found.keys() | {"prompt"} == job_options().keys()


@pytest.mark.parametrize(
    ("columns", "prompt"),
    [
        (["id", "question"], "{{ question }}"),
        (["text"], "{{ row['text'] }}"),
        (["Name", 'Unit "price"'], 'Name: {{ Name }}\nUnit "price": {{ row[\'Unit "price"\'] }}'),
    ],
)
def test_the_prompt_uses_the_columns(columns: list[str], prompt: str) -> None:
    """Without an obvious question column, the prompt shows all columns."""
    assert tomllib.loads(first_job("q.csv", columns))["prompt"] == prompt


def test_a_hostile_column_stays_a_comment() -> None:
    """A line break in a column's name begins no new line of the file."""
    loaded = tomllib.loads(first_job("q.csv", ["question", "a\nmodel = 'x'"]))
    assert loaded.keys() == {"input", "prompt"}


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    """An existing file is left alone."""
    path = tmp_path / "job.toml"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="already exists"):
        write_new(path, "yours")
    assert path.read_text(encoding="utf-8") == "mine"
