"""A journal that is lost although its batch had begun: no answered row is silently paid for again."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pandas
import pytest

import batchrun as package
from batchrun.errors import OutputError
from tests.support.command import Result, batchrun

QUESTIONS = "question\n1 + 1\n2 + 2\n3 + 3\n"


def run(folder: Path, *options: str, output: str = "a.csv") -> Result:
    return batchrun(folder, "run", "q.csv", "-o", output, "--script", "s.toml", *options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "q.csv").write_text(QUESTIONS)
    (tmp_path / "s.toml").write_text('[default]\nreply = "answer"\n')
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("output", "prefix", "state"),
    [
        ("a.csv", "", "gone"),
        ("a.csv", "my_", "empty"),
        ("a.csv.gz", "", "empty"),
        ("a.tsv", "my_", "gone"),
        ("a.jsonl", "my_", "gone"),
        ("a.parquet", "", "gone"),
    ],
)
def test_a_lost_journal_is_not_a_new_batch(folder: Path, output: str, prefix: str, state: str) -> None:
    """Next to an output of batchrun a missing journal is refused like an emptied one; nothing is changed or sent."""
    assert run(folder, "--output-prefix", prefix, output=output).returncode == 0
    journal = folder / f"{output}.journal"
    journal.unlink()
    if state == "empty":
        journal.touch()
    before = contents(folder)
    for options in ([], ["--output-prefix", "other_"], ["--pilot", "1"], ["--dry-run"], ["--accept-changes"]):
        refused = run(folder, *options, output=output)
        assert refused.returncode == 2, options
        assert f"{output}.journal: is {state}, although {output} next to it holds answers" in refused.stderr
        assert "--fresh" in refused.stderr
        assert contents(folder) == before
    assert run(folder, "--fresh", "--output-prefix", prefix, output=output).returncode == 0


def test_check_reports_it(folder: Path) -> None:
    """`check` of a job file reports it before the night's run does."""
    (folder / "job.toml").write_text('input = "q.csv"\noutput = "a.csv"\nscript = "s.toml"\n')
    assert batchrun(folder, "run", "job.toml").returncode == 0
    assert batchrun(folder, "check", "job.toml").returncode == 0
    (folder / "a.csv.journal").unlink()
    checked = batchrun(folder, "check", "job.toml")
    assert checked.returncode == 2
    assert "a.csv.journal: is gone" in checked.stderr


def test_python_says_it_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call with output= is refused too; a DataFrame without an output has nothing to lose."""
    monkeypatch.chdir(folder)
    frame = pandas.DataFrame({"question": ["1 + 1"]})
    package.run(frame, script=Path("s.toml"), output=Path("a.csv"))
    (folder / "a.csv.journal").unlink()
    with pytest.raises(OutputError, match="is gone"):
        package.run(frame, script=Path("s.toml"), output=Path("a.csv"))
    assert len(package.run(frame, script=Path("s.toml"))) == 1


def test_a_journal_that_was_put_back_is_continued(folder: Path) -> None:
    """The remedy in the message works: after the journal is restored, no row is sent again."""
    run(folder)
    shutil.move(folder / "a.csv.journal", folder / "kept")
    assert run(folder).returncode == 2
    shutil.move(folder / "kept", folder / "a.csv.journal")
    (folder / "s.toml").write_text('[default]\nreply = "asked again"\n')
    assert run(folder).returncode == 0
    assert "asked again" not in (folder / "a.csv").read_text()


def test_a_journal_that_fresh_set_aside_is_named(folder: Path) -> None:
    """If `--fresh` was killed after its rename, the message names the journal that it set aside."""
    run(folder)
    (folder / "a.csv.journal").rename(folder / "a.csv.journal.20261123T120000Z")
    refused = run(folder)
    assert refused.returncode == 2
    assert "(--fresh set a.csv.journal.20261123T120000Z aside)" in refused.stderr


def test_a_journal_of_no_batch_is_as_good_as_none(folder: Path) -> None:
    """A journal that was only begun does not replace the missing one."""
    run(folder)
    (folder / "a.csv.journal").unlink()
    run(folder, output="b.csv")
    journal = folder / "b.csv.journal"
    with contextlib.closing(sqlite3.connect(journal)) as db, db:
        db.execute("DELETE FROM manifest")
    journal.rename(folder / "a.csv.journal")
    refused = run(folder)
    assert refused.returncode == 2
    assert "a.csv.journal: holds no batch, although a.csv next to it holds answers" in refused.stderr


@pytest.mark.parametrize("command", ["export", "score"])
def test_what_other_commands_write_is_ours_too(folder: Path, command: str) -> None:
    """A table that `export` or `score` wrote holds answers that were paid for: a run does not silently replace it."""
    (folder / "q.csv").write_text("question,target\n1 + 1,2\n")
    run(folder)
    made = (
        batchrun(folder, "export", "a.csv", "-o", "b.csv")
        if command == "export"
        else batchrun(folder, "score", "a.csv", "--scorer", "exact", "--target", "target", "-o", "b.csv")
    )
    assert made.returncode == 0, made.stderr
    assert run(folder, output="b.csv").returncode == 2


@pytest.mark.parametrize(
    "text",
    ["name,status\nx,done\n", "question,response,status\nx,y,z\n", '"unfinished', "\x00\x01"],
    ids=["a table", "some columns alike", "broken", "no text"],
)
def test_a_file_of_somebody_elses_is_kept(folder: Path, text: str) -> None:
    """A file that batchrun has not written is not replaced, and nothing is sent, unless `--fresh` is given."""
    (folder / "a.csv").write_text(text)
    for refused in (run(folder), batchrun(folder, "run", "q.csv", "-o", "a.csv", "--dry-run")):
        assert refused.returncode == 2
        assert "a.csv: this file exists, and batchrun has not written it" in refused.stderr
        assert (folder / "a.csv").read_text() == text
        assert not (folder / "a.csv.journal").exists()
    assert run(folder, "--fresh").returncode == 0
    assert "answer" in (folder / "a.csv").read_text()


def test_an_empty_file_is_replaced(folder: Path) -> None:
    """An empty file in the output's place, as `mktemp` makes it, holds nothing that could be lost."""
    (folder / "a.csv").touch()
    assert run(folder).returncode == 0
    assert "answer" in (folder / "a.csv").read_text()


def test_dated_outputs_begin_each_day(folder: Path) -> None:
    """An output with {date} in its name begins a new batch each day; yesterday's output belongs to another batch."""
    run(folder, output="a-2001-01-01.csv")
    (folder / "a-2001-01-01.csv.journal").unlink()
    assert run(folder, output="a-{date}.csv").returncode == 0
