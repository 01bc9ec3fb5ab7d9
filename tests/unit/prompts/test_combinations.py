"""Combinations of settings: what they are, how they are told apart, and what stays the same when more come."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.job.fingerprint import settings_of
from batchrun.job.validation import make_job
from batchrun.prompts.combinations import combinations_of


def suffixes(**settings: Any) -> list[str]:
    return [each.suffix for each in combinations_of(settings)]


def test_one_combination() -> None:
    """Without axes there is one, with the settings as they are, no columns and no suffix."""
    (only,) = combinations_of({"prompt": "p", "model": "m"})
    assert (only.variant, only.epoch, only.settings) == (0, 1, {"prompt": "p", "model": "m"})
    assert (only.cells, only.suffix) == ({}, "")


def test_order_of_combinations() -> None:
    """As the matrix names them: the last axis fastest, epochs fastest of all; epochs of one share its variant."""
    found = combinations_of({"matrix": {"model": ["a", "b"], "temperature": [0.0, 1.0]}, "epochs": 2})
    assert [(each.variant, each.settings["model"], each.settings["temperature"], each.epoch) for each in found] == [
        (variant, model, temperature, epoch)
        for variant, (model, temperature) in enumerate(itertools.product("ab", (0.0, 1.0)))
        for epoch in (1, 2)
    ]


def test_cells_and_suffix() -> None:
    """Columns tell the values; the suffix tells them too, and the epoch from the second on."""
    first, second = combinations_of({"matrix": {"model": ["m"]}, "epochs": 2})
    assert first.cells == {"axis_model": "m", "epoch": 1}
    assert second.cells == {"axis_model": "m", "epoch": 2}
    assert (first.suffix, second.suffix) == ("|model=m", "|model=m|epoch=2")


def test_epochs_alone() -> None:
    """The first keeps the key that the row has without epochs."""
    assert suffixes(epochs=3) == ["", "|epoch=2", "|epoch=3"]


def test_the_settings_of_a_combination() -> None:
    """Those of the batch with the axes' values in them, and without the axes themselves."""
    found = combinations_of({"instructions": "i", "param": {"seed": 1}, "matrix": {"model": ["a"]}, "epochs": 2})
    assert [each.settings for each in found] == [{"instructions": "i", "param": {"seed": 1}, "model": "a"}] * 2


def test_adding_keeps_what_there_is() -> None:
    """More epochs and further values leave the earlier combinations what they were: settings, suffix, epoch."""

    def told(**settings: Any) -> set[tuple[str, str, int]]:
        return {(each.suffix, str(sorted(each.settings.items())), each.epoch) for each in combinations_of(settings)}

    few = told(matrix={"model": ["a", "b"]})
    both = {"model": ["a", "b"], "temperature": [0.0, 1.0]}
    assert told(matrix=both) == told(matrix=dict(reversed(both.items()))), "whatever the order of the axes"
    assert few < told(matrix={"model": ["c", "a", "b"]})
    assert few < told(matrix={"model": ["a", "b"]}, epochs=3)
    assert told() < told(epochs=2)


@pytest.mark.parametrize(
    ("value", "cell", "short"),
    [
        ("x" * 40, "x" * 40, "x" * 40),
        (0.5, 0.5, "0.5"),
        (None, None, "None"),
        (True, True, "True"),
        (["b", "a"], '["b", "a"]', '["b", "a"]'),
        ({"b": 1, "a": 2}, '{"a": 2, "b": 1}', '{"a": 2, "b": 1}'),
    ],
)
def test_values_as_cells(value: Any, cell: Any, short: str) -> None:
    """Numbers and text as they are, tables and lists as JSON, whatever the order in which a table was written."""
    (only,) = combinations_of({"matrix": {"x": [value]}})
    assert only.cells == {"axis_x": cell}
    assert only.suffix == f"|x={short}"


def test_long_values() -> None:
    """A prompt is no part of a key; a hash of it is, the same in every process."""
    one, other = suffixes(matrix={"prompt": ["Describe it. " * 10, "Describe it! " * 10]})
    assert one != other
    assert len(one) == len("|prompt=") + 12
    assert one == "|prompt=f98f9890feb5"


@given(
    st.lists(st.text(max_size=60), min_size=1, max_size=4, unique=True),
    st.lists(st.floats(0, 2), min_size=1, max_size=3, unique=True),
    st.integers(1, 3),
)
def test_suffixes_are_distinct(instructions: list[str], temperatures: list[float], epochs: int) -> None:
    """Whatever the values, no two combinations are taken for one another."""
    found = suffixes(matrix={"instructions": instructions, "temperature": temperatures}, epochs=epochs)
    assert len(set(found)) == len(instructions) * len(temperatures) * epochs


def test_the_job_says_the_axes() -> None:
    """What a job gives reaches the combinations as the options would have it."""
    job = make_job({"model": ["a", "b"], "matrix": {"temperature": [0, "1"]}, "epochs": 2, "prompt": "p"})
    found = combinations_of(settings_of(job))
    assert len(found) == 8
    assert found[-1].settings == {"prompt": "p", "model": "b", "temperature": 1.0}
    assert {each.settings["temperature"] for each in found} == {0.0, 1.0}
