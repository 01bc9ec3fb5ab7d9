"""`batchrun check` says what a run of a job file would do: rows, service, output, cost, and what prevents a start."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import batchrun

TABLE = "id,question\n" + "".join(f"{number},{number} + {number}\n" for number in range(1, 6))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "q.csv").write_text(TABLE, encoding="utf-8")
    (tmp_path / "job.toml").write_text('input = "q.csv"\nkey = "id"\n', encoding="utf-8")
    return tmp_path


def checked(folder: Path) -> list[str]:
    result = batchrun(folder, "check", "job.toml")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert len(lines) <= 10
    return lines


def test_a_new_batch(folder: Path) -> None:
    """The rows to send, who answers, the output, the cost and the time are shown, each on its line."""
    rows, answered, output, cost, time, *_ = checked(folder)
    assert rows == "job.toml: 5 rows of q.csv · 5 to send"
    assert answered.startswith("answered by: the embedded server's rule-based tutor")
    assert output == "output: outputs/q.csv"
    assert cost == "cost: free, the embedded server answers"
    assert time.startswith("time: ")


def test_new_changed_and_finished_rows(folder: Path) -> None:
    """Finished rows are counted as in the summary; a changed row is announced with its effect."""
    assert batchrun(folder, "run", "job.toml").returncode == 0
    assert checked(folder)[0] == "job.toml: 5 rows of q.csv · 0 to send · 5 from an earlier run"
    (folder / "q.csv").write_text(TABLE.replace("2 + 2", "2 + 3") + "6,6 + 6\n", encoding="utf-8")
    (folder / "job.toml").write_text('input = "q.csv"\nkey = "id"\naccept_changes = true\n', encoding="utf-8")
    rows, replaced, *_ = checked(folder)
    assert rows == "job.toml: 6 rows of q.csv · 2 to send · 4 from an earlier run"
    assert replaced.startswith("1 row already has an answer to another prompt")


def test_what_prevents_a_start_is_a_problem(folder: Path) -> None:
    """A changed setting is reported as an error, with exit code 2, before the night's run refuses it."""
    assert batchrun(folder, "run", "job.toml").returncode == 0
    (folder / "job.toml").write_text('input = "q.csv"\nkey = "id"\ntemperature = 0.5\n', encoding="utf-8")
    result = batchrun(folder, "check", "job.toml")
    assert result.returncode == 2
    assert result.stderr.startswith("batchrun: outputs/q.csv.journal belongs to a batch that differs")
    assert "temperature was None and is 0.5" in result.stderr
    assert result.stderr.count("\n") == 1
    assert batchrun(folder, "run", "job.toml").returncode == 2


def test_an_unknown_cost_is_said(folder: Path) -> None:
    """A model without a price has an unknown cost; with a price, the estimate is shown."""
    text = 'input = "q.csv"\nmodel = "m-1"\nbase_url = "http://127.0.0.1:9/v1"\n'
    (folder / "job.toml").write_text(text, encoding="utf-8")
    assert any(line.startswith("cost: unknown") for line in checked(folder))
    (folder / "job.toml").write_text(f"{text}prices = {{ m-1 = {{ input = 1, output = 1 }} }}\n", encoding="utf-8")
    assert any(line.startswith("cost: about $") for line in checked(folder))


def test_rows_that_cannot_be_sent_are_counted(folder: Path) -> None:
    """A row whose prompt cannot be made is named with its line; the others would run."""
    (folder / "q.csv").write_text(TABLE + "6,\n7,\n", encoding="utf-8")
    rows, first, more, *_ = checked(folder)
    assert rows.endswith("5 to send · 2 cannot be sent")
    assert "line 7" in first
    assert more == "  and 1 more"
