"""The expression of --where: what it matches, and what it refuses with what to write instead."""

from __future__ import annotations

from typing import Any

import pytest

from batchrun.errors import InputError
from batchrun.prompts.row_filter import RowFilter
from batchrun.records import Row

CELLS: dict[str, Any] = {
    "id": "3",
    "lang": "de",
    "Full name": "x",
    "price": "",
    "weight": 4.0,
    "tags": ["a"],
    "gone": None,
}


def matches(expression: str, cells: dict[str, Any] = CELLS) -> bool:
    return RowFilter(expression, list(cells)).matches(Row(7, cells, 9))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("lang == 'de'", True),
        ("lang == 'de' and id|int > 3", False),
        ("weight > 3", True),
        ("row['Full name'] == 'x'", True),
        ("'a' in tags and lang is startingwith 'd'", True),
        ("gone", False),
        ("price != '' and price > 3", False),
        ("lang == 'en' and id > 3", False),
        ("id > 3 or true", True),
        ("not (lang in ['en', 'fr'])", True),
        ("id|int in range(5)", True),
    ],
)
def test_what_it_matches(expression: str, expected: bool) -> None:
    """Cells are what they are in templates, and a condition may guard another."""
    assert matches(expression) is expected


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("lng == 'de'", "no column named 'lng' in the input (columns: 'id', 'lang', 'Full name', 'price', 'weight', "
         "'tags', 'gone'); did you mean 'lang'?"),
        ("Full == 'x'", "write it as row['Full name']"),
        ("row['Full nam'] == 'x'", "no column named 'Full nam'"),
        ("{{ lang == 'de' }}", "without braces"),
        ("lang = 'de'", "write == instead of ="),
        ("lang == 'de' AND id == '3'", "and, or, not in lower case instead of AND"),
        ("lang == 'de' &&", "write and instead of &&"),
        ("lang|length <", "unexpected end in 'lang|length <'"),
        ("lang|nothing", "filter nothing is unknown"),
        ("1 < weight < 5", "write it as two, such as 1 < weight and weight < 5"),
        ("", "the expression is empty"),
        ("weight|int > tags|int", "fails on row 7 (line 9)"),
        ("row.nothing", "fails on row 7 (line 9): undefined value"),
        ("id > 2", "row 7 (line 9): 'id > 2' compares a number with text ('3'); write id|float > 2"),
        ("2 < row['id']", "write 2 < row['id']|float"),
        ("id in [1, 2]", "write id|float in [1, 2]"),
        ("lang == 'de' and price > 2", "the cell is empty: write price != '' and price > 2"),
        ("gone == 0", "the cell is empty"),
        ("lang > 2", "compare it with a text in quotes"),
    ],
)  # fmt: skip
def test_what_it_refuses(expression: str, told: str) -> None:
    """A mistyped column, a slip of the syntax and a comparison that cannot be meant get a line with the way out."""
    with pytest.raises(InputError, match=r"^--where") as caught:
        matches(expression)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_columns_with_names_of_the_engine() -> None:
    """A column may have any name, also one that the engine's own methods and variables have."""
    assert matches("row['self'] == '1'", {"self": "1"})
    assert matches("row == '1' and range == '2'", {"row": "1", "range": "2"})
