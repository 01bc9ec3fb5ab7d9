"""The text that templates render, and hints for placeholders of other tools."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchrun.prompts.templates import prompter_for
from batchrun.records import Row
from batchrun.scoring.grading.rubric import Rubric
from batchrun.scoring.scorers.base import Sample

OPTIONS: list[Any] = ["a", 'b "ß"', None, True, 1.5]
NESTED: dict[str, Any] = {"k": ["x"], "é": None, "deep": {"n": [{"z": 1}]}}
CELLS: dict[str, Any] = {"options": OPTIONS, "nested": NESTED, "items": [{"q": "x"}, ["y"]], "text": "t", "none": None}


def rendered(template: str, cells: dict[str, Any] | None = None) -> str:
    cells = cells or CELLS
    return prompter_for({"prompt": template}, list(cells), None).render(Row(0, cells)).first.text


def shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ options }}", OPTIONS),
        ("{{ row.options }}", OPTIONS),
        ("{{ row['options'] }}", OPTIONS),
        ("{{ nested }}", NESTED),
        ("{{ nested.k }}", ["x"]),
        ("{{ nested.deep }}", NESTED["deep"]),
        ("{{ nested.deep.n[0] }}", {"z": 1}),
        ("{{ options[:2] }}", OPTIONS[:2]),
        ("{{ '' ~ options }}", OPTIONS),
        ("{{ '' ~ nested.deep }}", NESTED["deep"]),
        ("{{ options | string }}", OPTIONS),
        ("{{ [options] | join }}", OPTIONS),
        ("{{ '%s' | format(nested) }}", NESTED),
        ("{{ options | list }}", OPTIONS),
        ("{{ {'z': nested} }}", {"z": NESTED}),
        ("{{ [1, nested] }}", [1, NESTED]),
        ("{{ nested | items | list }}", [list(each) for each in NESTED.items()]),
        ("{{ nested.keys() }}", list(NESTED)),
        ("{{ nested.items() }}", [list(each) for each in NESTED.items()]),
        ("{% set z = options %}{{ z }}", OPTIONS),
        ("{% for each in items[:1] %}{{ each }}{% endfor %}", {"q": "x"}),
        ("{% for each in items[:1] %}{{ '' ~ each }}{% endfor %}", {"q": "x"}),
        ("{{ row.nested.deep.n }}", [{"z": 1}]),
        ("{{ (options, 1) }}", [OPTIONS, 1]),
        ("{{ options | tojson }}", OPTIONS),
    ],
)
def test_lists_and_objects_are_json(template: str, value: Any) -> None:
    """A list or an object becomes JSON, however it is converted to text."""
    assert rendered(template) == shown(value)


def test_the_row_as_a_whole_is_json() -> None:
    """`{{ row }}` renders all cells as one object, with missing cells as empty text."""
    assert json.loads(rendered("{{ row }}")) == {**CELLS, "none": ""}


def test_numbers_that_json_lacks_are_null() -> None:
    """NaN and infinities inside a list become null, so that the JSON is valid."""
    assert rendered("{{ x }}", {"x": [float("nan"), float("inf"), 1.0]}) == "[null, null, 1.0]"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ text }}", "t"),
        ("{{ options | join('+') }}", 'a+b "ß"+None+True+1.5'),
        ("{{ options | length }}{{ nested | length }}", "53"),
        ("{{ 'yes' if 'a' in options }}{{ 'yes' if nested.k is sequence and nested is mapping }}", "yesyes"),
        ("{% for key, value in nested.items() %}{{ key }} {% endfor %}", "k é deep "),
        ("{% for key in nested %}{{ key }} {% endfor %}", "k é deep "),
        ("{{ nested == {'k': ['x'], 'é': None, 'deep': {'n': [{'z': 1}]}} }}", "True"),
        ("[{{ row.none }}]", "[]"),
        ("{{ 1.5 }} {{ true }} {{ 1e16 }} {{ 0.0000001 }}", "1.5 True 10000000000000000.0 0.0000001"),
    ],
)
def test_everything_else_is_as_it_was(template: str, text: str) -> None:
    """Operations on lists and objects, and the text of other values, have not changed."""
    assert rendered(template) == text


def test_rubrics_print_the_same() -> None:
    """A rubric renders lists and objects as JSON too."""
    rubric = Rubric(
        "{{ options }} {{ row.nested }} {{ response }}",
        list(CELLS),
        where="r",
        question=None,
        target=None,
        grade_line="",
        grades=(),
    )
    sample = Sample(answer="A", target=None, row=CELLS)
    assert rubric.render(sample) == f"{shown(OPTIONS)} {shown(NESTED)} A"
