"""Inspecting a batch: by its output or its job file, and the messages if something is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command import batchrun


def job_file(folder: Path, *lines: str, table: str = "question\n1+1\n2+2\n") -> str:
    """Write a table in its own folder, and a job file next to it; return the job file's name from `folder`."""
    (folder / "night").mkdir()
    (folder / "night" / "q.csv").write_text(table, encoding="utf-8")
    (folder / "night" / "job.toml").write_text("\n".join(('input = "q.csv"', *lines)), encoding="utf-8")
    return "night/job.toml"


# -- a job file in the output's place -------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["", 'output = "{date}/a.csv"'], ids=["default output", "dated output"])
def test_a_job_file_stands_for_its_output(tmp_path: Path, line: str) -> None:
    """status, export, show, costs and cleanup find the batch of a job file, whatever its output is today."""
    job = job_file(tmp_path, line)
    assert batchrun(tmp_path, "run", job).returncode == 0
    facts = json.loads(batchrun(tmp_path, "status", job, "--json").stdout)
    (output,) = tmp_path.glob("night/*/*.csv")
    assert (tmp_path / facts["output"], facts["completed"]) == (output, 2)
    output.unlink()
    assert batchrun(tmp_path, "export", job).returncode == 0
    assert "2 + 2 = 4." in output.read_text(encoding="utf-8")
    assert "2 + 2 = 4." in batchrun(tmp_path, "show", job, "1").stdout
    assert json.loads(batchrun(tmp_path, "costs", job, "--json").stdout)["models"][0]["rows"] == 2
    assert batchrun(tmp_path, "cleanup", job).stderr.startswith("3 deleted")


def test_looking_needs_no_keys(tmp_path: Path) -> None:
    """A job file with unset variables can be inspected, since none of them is sent."""
    job = job_file(tmp_path, 'ping = "${NIGHT_PING}"')
    assert batchrun(tmp_path, "run", job).returncode == 2
    assert batchrun(tmp_path, "run", "night/q.csv", "-o", "night/outputs/q.csv").returncode == 0
    assert "finished" in batchrun(tmp_path, "status", job).stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", "q.csv: no batch has written this output"),
        ("outptu = 'a.csv'", "unknown key 'outptu'; did you mean 'output'?"),
    ],
    ids=["never run", "wrong"],
)
@pytest.mark.parametrize("command", [["status"], ["export"], ["show"], ["costs"], ["cleanup"]])
def test_a_job_file_without_a_batch(tmp_path: Path, command: list[str], line: str, expected: str) -> None:
    """One line reports that the batch has never run, or the error in the file."""
    job = job_file(tmp_path, line)
    done = batchrun(tmp_path, *command, job, *(["0"] if command == ["show"] else []))
    assert done.returncode == 2
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


# -- one row ----------------------------------------------------------------------------------------------------

KEYED = "id,question\ncat-1,1+1\ncat-2,2+2\ndog-1,3+3\n"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("cat", "did you mean 'cat-2' or 'cat-1'?"),
        ("cat1", "did you mean 'cat-1' or 'cat-2'?"),
        ("1", "rows are identified by the --key column 'id'; the row at position 1 is 'cat-2'"),
        ("3", "rows are identified by the --key column 'id'"),
        ("²", "rows are identified by the --key column 'id'"),
    ],
)
def test_an_unknown_row_of_a_keyed_batch(tmp_path: Path, row: str, expected: str) -> None:
    """With --key the message states how rows are identified, and which one may have been meant."""
    job = job_file(tmp_path, 'key = "id"', table=KEYED)
    assert batchrun(tmp_path, "run", job).returncode == 0
    assert "3 + 3 = 6." in batchrun(tmp_path, "show", job, "dog-1").stdout
    done = batchrun(tmp_path, "show", job, row)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"no row {row!r} in " in done.stderr
    assert done.stderr.endswith(expected + "\n")


def test_an_unknown_row_without_a_key(tmp_path: Path) -> None:
    """Without --key the message names the range of positions."""
    job = job_file(tmp_path)
    assert batchrun(tmp_path, "run", job).returncode == 0
    assert batchrun(tmp_path, "show", job, "2").stderr.endswith("q.csv: rows are identified by position: 0 to 1\n")


# -- what it cost -----------------------------------------------------------------------------------------------


def test_the_embedded_server_is_free_in_one_word(tmp_path: Path) -> None:
    """Summary, status, costs, dry run and pilot call it free; the column is empty, and JSON gives the reason."""
    job = job_file(tmp_path, 'output = "a.csv"')
    run = batchrun(tmp_path, "run", job)
    assert run.stderr.splitlines()[2].startswith("2 rows · 2 completed · 10 tokens in, 6 out · free · ")
    assert "10 tokens in, 6 out · free · model tutor" in batchrun(tmp_path, "status", job).stdout
    assert batchrun(tmp_path, "costs", job).stdout.splitlines() == [
        "model  rows  tokens in  cached  out  recorded  computed",
        "tutor     2         10       0    6      free      free",
        "free: the embedded server answered",
    ]
    assert "cost: free, the embedded server answers" in batchrun(tmp_path, "run", job, "--dry-run").stdout
    assert "cost: free, the embedded server answers" in batchrun(tmp_path, "run", job, "--pilot", "1").stderr
    for command in (["status"], ["costs"], ["run"]):
        facts = batchrun(tmp_path, *command, job, "--json").facts()
        assert (facts["embedded"], facts.get("cost_usd"), facts.get("recorded_usd")) == (True, None, None)


def test_prices_of_ones_own_hold_for_the_embedded_server(tmp_path: Path) -> None:
    """A budget can be rehearsed: with a price for the tutor, its answers cost what the job states."""
    job = job_file(tmp_path, "[prices.tutor]", "input = 1_000_000", "output = 0")
    assert " · $10.00 · " in batchrun(tmp_path, "run", job).stderr
    assert " · $10.00 · model tutor" in batchrun(tmp_path, "status", job).stdout
    assert batchrun(tmp_path, "costs", job).stdout.splitlines()[1].split()[-2:] == ["$10.00", "$10.00"]
    assert "free" not in batchrun(tmp_path, "costs", job).stdout


# -- an input that is gone --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["export"], ["show"]])
@pytest.mark.parametrize("stdin", [False, True], ids=["file", "standard input"])
def test_an_input_that_is_gone(tmp_path: Path, command: list[str], stdin: bool) -> None:
    """Without the input no table can be made: one line names it, and where the answers are."""
    gone = tmp_path / ("a.csv.input.csv" if stdin else "q.csv")
    if stdin:
        assert batchrun(tmp_path, "run", "-", "-o", "a.csv", stdin="question\n1+1\n").returncode == 0
    else:
        gone.write_text("question\n1+1\n", encoding="utf-8")
        assert batchrun(tmp_path, "run", "q.csv", "-o", "a.csv").returncode == 0
    table, answers = gone.read_bytes(), (tmp_path / "a.csv").read_bytes()
    gone.unlink()
    done = batchrun(tmp_path, *command, "a.csv", *(["0"] if command == ["show"] else []))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"{gone.name}: the input of this batch is missing: restore it; " in done.stderr
    assert done.stderr.endswith("a.csv.journal still holds the answers\n")
    assert (tmp_path / "a.csv").read_bytes() == answers
    gone.write_bytes(table)
    assert batchrun(tmp_path, "export", "a.csv").returncode == 0
    assert (tmp_path / "a.csv").read_bytes() == answers


@pytest.mark.parametrize("command", [["run", "--dry-run"], ["check"]])
def test_a_dry_run_without_its_input(tmp_path: Path, command: list[str]) -> None:
    """The line names the file; if the batch ran before, also the journal with its answers."""
    job = job_file(tmp_path)
    table = tmp_path / "night" / "q.csv"
    text = table.read_bytes()
    table.unlink()
    assert "q.csv: no such file in " in batchrun(tmp_path, *command, job).stderr
    table.write_bytes(text)
    assert batchrun(tmp_path, "run", job).returncode == 0
    table.unlink()
    done = batchrun(tmp_path, *command, job)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "q.csv: no such file" in done.stderr
    assert done.stderr.endswith("q.csv.journal still holds the answers of an earlier run over it\n")
