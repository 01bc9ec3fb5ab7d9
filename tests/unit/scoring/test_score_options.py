"""Scoring options: one declaration for the flags of all commands and for a job file's table `[score]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batchrun.cli import cli
from batchrun.errors import InputError
from batchrun.job.file import SCORE_PATHS, load_job_file, read_job_file
from batchrun.scoring.score_options import Use, make_score_options, score_options

USES: tuple[Use, ...] = ("score", "compare", "report", "view", "run")


@pytest.mark.parametrize("use", USES)
def test_every_command_has_the_flags_that_are_declared_for_it(use: Use) -> None:
    """A declared option is a flag of the command, with the declared help text."""
    flags = {param.name: getattr(param, "help", None) or "" for param in cli.commands[use].params}
    for name, (option, _) in score_options(use).items():
        assert name in flags
        if name != "scorer":  # its help names the kinds that the command can use
            assert flags[name].startswith(option.help)


def test_paths_are_declared_as_paths() -> None:
    """A job file makes exactly those keys of `[score]` relative to itself that are declared as paths."""
    assert set(SCORE_PATHS) == {name for name, (option, _) in score_options("job file").items() if option.is_path}


def test_a_single_value_needs_no_list() -> None:
    """Options that can be repeated accept a single text."""
    found = make_score_options({"scorer": "numeric", "by": "topic", "grader": "g.toml"}, "j.toml: score")
    assert (found.scorer, found.by, found.grader) == (("numeric",), ("topic",), (Path("g.toml"),))


def test_paths_are_relative_to_the_job_file(tmp_path: Path) -> None:
    """Files in the table mean the same from any working directory; scorers and columns are not paths."""
    path = tmp_path / "job.toml"
    path.write_text(
        'input = "q.csv"\n[score]\nscorer = "exact"\nby = "a"\ngrader = ["g.toml"]\nno_worse_than = "b.csv"\njunit = "j.xml"\n'
    )
    file = read_job_file(path, {}, ("score",))
    beside = {"grader": [f"{tmp_path}/g.toml"], "no_worse_than": f"{tmp_path}/b.csv", "junit": f"{tmp_path}/j.xml"}
    assert file.tables["score"] == {"scorer": "exact", "by": "a", **beside}
    assert load_job_file(path, {})[1] == file.options == {}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"target": "a"}, "names no scorer, such as numeric; target requires one"),
        ({}, "names no scorer"),
        ({"scorer": "exact", "tagret": "a"}, "unknown key 'tagret'; did you mean 'target'?"),
        ({"scorer": "exact", "target": 3}, "target: input should be a valid string, got 3"),
        ({"scorer": "exact", "fail_under": 2}, "fail_under: expected a number from 0 to 1, got 2"),
        ({"scorer": "exact", "fail_under": "high"}, "fail_under: input should be a valid number"),
        ({"scorer": "exact", "failed_as": "right"}, "failed_as: input should be 'skip' or 'wrong', got 'right'"),
        ({"scorer": "exact", "margin": 0.1}, "margin requires no_worse_than"),
        ({"scorer": "exact", "junit": "j.xml"}, "junit requires a bar: add fail_under or no_worse_than"),
        ({"scorer": "exact", "min_scored": 0.5}, "min_scored requires a bar: add fail_under or no_worse_than"),
        ({"scorer": "exact", "bar_on": "interval"}, "bar_on requires a bar: add fail_under or no_worse_than"),
        ({"scorer": "exact", "fail_under": 1, "min_scored": 95}, "min_scored: expected a number from 0 to 1, got 95"),
    ],
)
def test_what_is_wrong_gets_one_line(given: dict[str, Any], expected: str) -> None:
    """The message names the table, the key and the expected value."""
    with pytest.raises(InputError) as caught:
        make_score_options(given, "j.toml: score")
    assert str(caught.value).startswith("j.toml: score: ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
