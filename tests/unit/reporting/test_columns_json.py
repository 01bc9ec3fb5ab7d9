"""Rows packed for a page are unpacked unchanged."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.reporting.columns_json import packed, portions
from tests.support.pages import unpacked

TEXT = st.text(alphabet=st.sampled_from('ab\x7f\x80\n\0"é'), max_size=4)
CELL = TEXT | st.none() | st.sampled_from([0, 1, 1.0, 2.5, True])


@st.composite
def rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    width = draw(st.integers(0, 3))
    return [
        {
            "i": place * 3,
            "k": draw(TEXT),
            "c": [draw(CELL) for _ in range(width)],
            **draw(st.fixed_dictionaries({}, optional={
                "p": TEXT | st.integers(0, 2),
                "t": st.just([[1, "now", None, None, None, None]]),
                "d": st.just([[1, "Hello?", "Hello."]]),
                "m": st.just([["system", "Be short."], ["user", "Hello?"]]),
                "b": st.just({"response": "4"}),
            })),
        }
        for place in range(draw(st.integers(0, 5)))
    ]  # fmt: skip


def exact(value: Any) -> str:
    """Return JSON, in which 1, 1.0 and True differ."""
    return json.dumps(value, sort_keys=True)


@settings(max_examples=100)
@given(rows())
def test_rows_come_back(given_rows: list[dict[str, Any]]) -> None:
    """Every cell, prompt, attempt and dialogue is unchanged, whatever characters it has."""
    assert exact(list(unpacked(json.loads(json.dumps(packed(given_rows)))))) == exact(given_rows)


def test_a_column_of_texts_is_one_text() -> None:
    """A text column is one string; a column with the separator in a cell stays a list."""
    found = packed([{"i": place, "k": str(place), "c": ["a", None, 7, "\x7f"]} for place in range(2)])
    assert found["c"] == ["a\x7fa", (None, None), 7, ("\x7f", "\x7f")]


def test_the_first_portion_is_small() -> None:
    """The first portion is shown while the others are read; there is one even without rows."""
    many = [{"i": place, "k": "", "c": []} for place in range(6_000)]
    assert [len(each["i"]) for each in portions(many)] == [500, 5_000, 500]
    assert [len(each["i"]) for each in portions([])] == [0]
