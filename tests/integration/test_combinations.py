"""Rows in several combinations, through the commands that inspect them and the runs that add to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import batchrun
from tests.support.command import Result
from tests.support.command import batchrun as command
from tests.support.rows import write_csv

TURNS = ["{{ question }}", "{{ responses[0] | length }} + 1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_csv(tmp_path / "in.csv", [{"id": "a", "question": "1 + 1"}, {"id": "b", "question": "1 + 1"}])
    return tmp_path


def asked(folder: Path, *options: str) -> dict[str, Any]:
    """Return the facts of a successful run."""
    done: Result = command(folder, "run", "in.csv", "-o", "out.csv", "--json", *options)
    assert done.returncode == 0, done.stderr
    return done.facts()


def test_a_row_of_several_combinations_is_named(folder: Path) -> None:
    """For a key alone, the message shows the keys of its combinations."""
    (folder / "s.toml").write_text('[default]\nreply = "1 + 1 = 2."\n')
    asked(folder, "--key", "id", "--epochs", "2", "--model", "m", "--model", "n", "--script", "s.toml")
    shown = command(folder, "show", "out.csv", "a")
    assert shown.returncode == 2
    assert shown.stderr.endswith("each with its own key, such as 'a|model=m'\n")
    shown = command(folder, "show", "out.csv", "a|model=n|epoch=2")
    assert shown.returncode == 0, shown.stderr
    assert "1 + 1 = 2" in shown.stdout


def test_a_pilot_of_identical_prompts(folder: Path) -> None:
    """Whichever of the duplicates the pilot ran, the rest of the batch runs none of them again."""
    pilot = command(folder, "run", "in.csv", "-o", "out.csv", "--json", "--dedupe", "--pilot", "1")
    assert pilot.returncode == 0, pilot.stderr
    rest = asked(folder, "--dedupe")
    assert (rest["requests"], rest["completed"]) == (1, 2), "the assistant is looked up, and nothing is asked"


def test_a_frame_that_is_asked_more_often(tmp_path: Path) -> None:
    """Epochs that are added to a batch over a DataFrame run only the new combinations."""
    frame = pd.DataFrame({"question": ["1 + 1", "2 + 2"]}, index=["x", "y"])
    output = tmp_path / "out.csv"
    first = batchrun.run(frame, prompt=TURNS, output=output)
    second = batchrun.run(frame, prompt=TURNS, output=output, epochs=2)
    assert second.index.tolist() == ["x", "x", "y", "y"]
    assert second["epoch"].tolist() == [1, 2, 1, 2]
    assert second["response_2"].notna().all()
    assert second[second["epoch"] == 1]["run_id"].tolist() == first["run_id"].tolist()
