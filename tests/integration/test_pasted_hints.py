"""The commands and options that messages show, pasted into a shell: they do what the message says.

`tests/unit/test_shell_hint.py` finds every message that shows a command with a value, and checks that it is quoted.
"""

from __future__ import annotations

import csv
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.command import Result, batchrun
from tests.support.odd_names import some_odd_names
from tests.support.rows import read_csv


def pasted(folder: Path, line: str) -> Result:
    """Run a line `batchrun …` with the words that a real shell makes of it."""
    done = subprocess.run(["sh", "-c", f"printf '%s\\0' {line}"], cwd=folder, capture_output=True, check=True)
    program, *arguments = done.stdout.decode().split("\0")[:-1]
    assert program == "batchrun"
    return batchrun(folder, *arguments)


def shown(done: Result, pattern: str) -> str:
    """The part of the messages that a user copies."""
    found = re.search(pattern, done.stderr, re.M)
    assert found is not None, done.stderr
    return found[1]


def write(path: Path, *rows: list[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


@some_odd_names()
def test_the_prompt_for_a_table_without_a_usual_column(tmp_path: Path, name: str) -> None:
    """The shown `--prompt` renders the column with the most text, whatever its name is."""
    write(tmp_path / "q.csv", ["id", name], ["7", "What is 2+3?"])
    missing = batchrun(tmp_path, "run", "q.csv")
    assert missing.returncode == 2
    option = shown(missing, r"for example (--prompt .*)$")
    assert pasted(tmp_path, f"batchrun run q.csv --quiet {option}").returncode == 0
    assert [row["response"] for row in read_csv(tmp_path / "outputs/q.csv")] == ["2 + 3 = 5."]


@pytest.mark.parametrize("text", ["What is 2+3?", "What is 2 + 3, please?", "2+3"])
def test_a_table_without_a_header(tmp_path: Path, text: str) -> None:
    """The shown `--no-header --prompt` runs the first line as a row."""
    write(tmp_path / "q.csv", ["1", text], ["2", "What is 4*5?"])
    missing = batchrun(tmp_path, "run", "q.csv")
    option = shown(missing, r"(--no-header --prompt '[^']*')")
    assert pasted(tmp_path, f"batchrun run q.csv --quiet {option}").returncode == 0
    assert [row["response"] for row in read_csv(tmp_path / "outputs/q.csv")] == ["2 + 3 = 5.", "4 * 5 = 20."]


@some_odd_names()
def test_the_next_step_after_init(tmp_path: Path, name: str) -> None:
    """The shown `batchrun check` checks the job file that `init` wrote, whatever the name of the table is."""
    write(tmp_path / f"{name}.csv", ["question"], ["What is 2+3?"])
    done = batchrun(tmp_path, "init", f"./{name}.csv")
    assert done.returncode == 0, done.stderr
    checked = pasted(tmp_path, shown(done, r"(batchrun check .*)$"))
    assert checked.returncode == 0, checked.stderr
    assert "1 row of " in checked.stdout


@some_odd_names("variable", "operators")  # `{word}` in the name of an output is a placeholder
def test_the_table_of_a_batch_that_has_only_a_journal(tmp_path: Path, name: str) -> None:
    """The shown `batchrun export` writes the table that `report` did not find."""
    write(tmp_path / "q.csv", ["question"], ["What is 2+3?"])
    output = tmp_path / f"{name}.csv"
    assert batchrun(tmp_path, "run", "q.csv", "-o", f"./{name}.csv", "--quiet").returncode == 0
    output.unlink()
    missing = batchrun(tmp_path, "report", f"./{name}.csv")
    assert missing.returncode == 2
    assert pasted(tmp_path, shown(missing, r"(batchrun export .*) writes the rows")).returncode == 0
    assert [row["response"] for row in read_csv(output)] == ["2 + 3 = 5."]
    recounted = batchrun(tmp_path, "costs", f"./{name}.csv", "--write")
    assert recounted.returncode == 0
    export = re.search(r"(batchrun export .*) writes the table", recounted.stdout)
    assert export is not None
    assert pasted(tmp_path, export[1]).returncode == 0
