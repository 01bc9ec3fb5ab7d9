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
