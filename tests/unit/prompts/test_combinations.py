"""Combinations of settings: their order, columns and suffixes, and their stability when others are added."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.job.fingerprint import settings_of
from batchrun.job.validation import make_job
from batchrun.prompts.combinations import combinations_notice, combinations_of, rows_times_text


def suffixes(**settings: Any) -> list[str]:
    return [each.suffix for each in combinations_of(settings)]


def test_one_combination() -> None:
    """Without axes there is one combination with unchanged settings, no columns and no suffix."""
    (only,) = combinations_of({"prompt": "p", "model": "m"})
    assert (only.variant, only.epoch, only.settings) == (0, 1, {"prompt": "p", "model": "m"})
    assert (only.cells, only.suffix) == ({}, "")


def test_order_of_combinations() -> None:
    """The order is that of the matrix; the last axis varies faster than the others, epochs fastest; epochs share a variant."""
    found = combinations_of({"matrix": {"model": ["a", "b"], "temperature": [0.0, 1.0]}, "epochs": 2})
    assert [(each.variant, each.settings["model"], each.settings["temperature"], each.epoch) for each in found] == [
        (variant, model, temperature, epoch)
        for variant, (model, temperature) in enumerate(itertools.product("ab", (0.0, 1.0)))
        for epoch in (1, 2)
    ]


def test_cells_and_suffix() -> None:
    """Columns contain the values; the suffix contains them too, and the epoch from the second on."""
    first, second = combinations_of({"matrix": {"model": ["m"]}, "epochs": 2})
    assert first.cells == {"axis_model": "m", "epoch": 1}
    assert second.cells == {"axis_model": "m", "epoch": 2}
    assert (first.suffix, second.suffix) == ("|model=m", "|model=m|epoch=2")


def test_epochs_alone() -> None:
    """The first epoch keeps the key that the row has without epochs."""
    assert suffixes(epochs=3) == ["", "|epoch=2", "|epoch=3"]


def test_the_settings_of_a_combination() -> None:
    """The settings are those of the batch with the values of the axes, without the axes themselves."""
    found = combinations_of({"instructions": "i", "param": {"seed": 1}, "matrix": {"model": ["a"]}, "epochs": 2})
    assert [each.settings for each in found] == [{"instructions": "i", "param": {"seed": 1}, "model": "a"}] * 2


def test_adding_keeps_what_there_is() -> None:
    """More epochs and values do not change settings, suffix and epoch of earlier combinations."""

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
    """Numbers and text are unchanged; tables and lists become JSON, with sorted keys."""
    (only,) = combinations_of({"matrix": {"x": [value]}})
    assert only.cells == {"axis_x": cell}
    assert only.suffix == f"|x={short}"


def test_long_values() -> None:
    """A long prompt is in the key as a hash, which is the same in every process."""
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
    """No two combinations have the same suffix, whatever their values."""
    found = suffixes(matrix={"instructions": instructions, "temperature": temperatures}, epochs=epochs)
    assert len(set(found)) == len(instructions) * len(temperatures) * epochs


def test_a_job_becomes_combinations() -> None:
    """The values in a job are validated as those of the options before they become combinations."""
    job = make_job({"model": ["a", "b"], "matrix": {"temperature": [0, "1"]}, "epochs": 2, "prompt": "p"})
    found = combinations_of(settings_of(job))
    assert len(found) == 8
    assert found[-1].settings == {"prompt": "p", "model": "b", "temperature": 1.0}
    assert {each.settings["temperature"] for each in found} == {0.0, 1.0}


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "60 rows"),
        ({"epochs": 3}, "60 rows × 3 epochs"),
        ({"matrix": {"model": ["a", "b"]}, "epochs": 3}, "60 rows × 2 models × 3 epochs"),
        ({"matrix": {"prompt": ["a", "b"], "temperature": [0, 1]}}, "60 rows × 2 prompts × 2 values of temperature"),
    ],
)
def test_rows_times_what(settings: dict[str, Any], text: str) -> None:
    """People read the rows of their table, and how often each is run."""
    assert rows_times_text(60, settings) == text


def test_the_columns_of_combinations_are_explained() -> None:
    """A notice names the columns that identify a combination; a batch without combinations has none."""
    assert combinations_notice(60, {}) == ""
    assert combinations_notice(60, {"matrix": {"model": ["a", "b"]}, "epochs": 3}) == (
        "60 rows × 2 models × 3 epochs = 360 rows in the output; there the columns axis_model and epoch identify the "
        "combination of each row"
    )
    assert "the column axis_model identifies" in combinations_notice(1, {"matrix": {"model": ["a", "b"]}})
