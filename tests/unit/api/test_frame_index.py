"""Comparisons of pandas frames whose rows have an index and no column with ids."""

from __future__ import annotations

import pandas as pd
import pytest

import batchrun
from batchrun.errors import InputError


def frame(*answers: str, index: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"n": range(len(answers)), "target": ["4"] * len(answers), "response": answers}, index=index)


def test_frames_of_the_same_index() -> None:
    """Without a key, rows with the same label are a pair; the frame of the scores has no column more than usual."""
    before, after = frame("5", "4", index=["x", "y"]), frame("4", "4", index=["x", "y"])
    found = batchrun.compare(before, after, scorer="exact", target="target")
    assert (found.pairs, found.better, found.worse) == (2, ("x",), ())
    assert found.to_frame().columns.tolist() == [
        "n", "target", "response", "score_exact", "score_exact_read",
    ]  # fmt: skip
    with_key = batchrun.compare(before.assign(id=["x", "y"]), after.assign(id=["x", "y"]), scorer="exact", key="id",
                                target="target")  # fmt: skip
    assert found.facts()["pairings"] == with_key.facts()["pairings"]


@pytest.mark.parametrize("index", [["x", "z"], ["y", "x"], ["x", "x"]])
def test_frames_of_another_index(index: list[str]) -> None:
    """An index that differs, or that has a label twice, does not say which rows belong together: a key is asked for."""
    first = ["x", "x"] if index == ["x", "x"] else ["x", "y"]
    with pytest.raises(InputError, match="name their id column with key=COLUMN"):
        batchrun.compare(frame("5", "4", index=first), frame("4", "4", index=index), scorer="exact", target="target")


def test_the_default_index() -> None:
    """The default index pairs rows only if a column shows that they are the same rows."""
    before, after = frame("5", "4", index=["x", "y"]), frame("4", "4", index=["x", "y"])
    before, after = before.reset_index(drop=True), after.reset_index(drop=True)
    assert batchrun.compare(before, after, scorer="exact", target="target").better == ("0",)
    with pytest.raises(InputError, match="name their id column with key=COLUMN"):
        batchrun.compare(before.assign(n=1), after, scorer="exact", target="target")


def test_parts_of_a_frame() -> None:
    """Rows of the parts of one frame are named by its index."""
    both = pd.concat(
        [frame("5", "4", index=["x", "y"]).assign(model="a"), frame("4", "4", index=["x", "y"]).assign(model="b")]
    )
    found = batchrun.compare(both, split="model", scorer="exact", target="target")
    assert (found.better, found.worse) == (("x",), ())
