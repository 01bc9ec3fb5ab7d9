"""Values of another type than a parameter has: each is refused by one line, in the words of Python."""

from __future__ import annotations

from typing import Any

import pytest

import batchrun
from batchrun.errors import InputError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"progress": "no"}, "progress: expected True, False or None, got 'no'"),
        ({"dry_run": "no"}, "dry_run: expected True or False, got 'no'"),
        ({"concurrency": True}, "concurrency: expected a number, got True"),
        ({"epochs": True}, "epochs: expected a number, got True"),
        ({"temperature": False}, "temperature: expected a number, got False"),
        ({"keep_going": 1}, "keep_going: expected true or false, got 1"),
        ({"wait": "no"}, "wait: expected true or false, got 'no'"),
        ({"prompt": []}, "prompt: the list is empty; give at least one prompt, or leave the option out"),
        ({"score": "python"}, "scorer: expected python:FILE.py:function (in Python also a function), got 'python'"),
    ],
)
def test_a_value_of_another_type(options: dict[str, Any], message: str) -> None:
    """Nothing is turned into the type of a parameter that means something else there."""
    with pytest.raises(InputError) as refusal:
        batchrun.run([{"prompt": "1 + 1", "target": "2"}], **{"model": "tutor", **options})
    assert str(refusal.value) == message


def test_a_budget_for_the_tutor() -> None:
    """The tutor costs nothing, so that a budget needs no price."""
    assert batchrun.run(["1 + 1"], model="tutor", budget=1.0)["response"].tolist() == ["1 + 1 = 2."]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "compare requires scorer or judge"),
        ({"judge": 5}, "judge: expected the name of a model, or the path of a job file, got 5"),
        ({"judge": "m", "scorer": "exact"}, "judge compares the answers themselves: scorer has no effect"),
        ({"judge": "m", "detect": 0.1}, "judge compares the answers themselves: detect has no effect"),
        ({"judge": "m", "by": "id"}, "judge compares the answers themselves: by has no effect"),
        ({"scorer": "exact", "dry_run": True}, "dry_run prices a judge alone: give judge, and no scorer"),
        ({"judge": "m", "dry_run": "no"}, "dry_run: expected True or False, got 'no'"),
    ],
)
def test_a_comparison_by_scores_or_by_a_judge(options: dict[str, Any], message: str) -> None:
    """What has no effect on a judge, or needs one, is refused in the words of Python; nothing is sent."""
    rows = [{"id": 1, "prompt": "1 + 1", "response": "2"}]
    with pytest.raises(InputError) as refusal:
        batchrun.compare(rows, rows, **{"key": "id", **options})
    assert str(refusal.value) == message
