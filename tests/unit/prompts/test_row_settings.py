"""Settings that are templates over the row's columns."""

from __future__ import annotations

from typing import Any

import pytest

from batchrun.errors import InputError
from batchrun.prompts.templates import PromptError
from batchrun.records import Prompt, Row, RowSettings
from tests.support.rows import prompter

CELLS = {"q": "2 + 2?", "tone": "calm", "n": "7", "big": 8, "words": ["a", "ß"], "gap": None}


def rendered(cells: dict[str, Any] = CELLS, **settings: Any) -> Prompt:
    return prompter(["{{ q }}"], list(CELLS), **settings).render(Row(0, {**CELLS, **cells}))


@pytest.mark.parametrize(
    ("settings", "own"),
    [
        ({"instructions": "Be {{ tone }}."}, RowSettings(instructions="Be calm.")),
        ({"model": " m-{{ n }} ", "instructions": "Be brief."}, RowSettings(model="m-7")),
        ({"param": {"user": "u{{ n }}", "seed": 1}}, RowSettings(param={"user": "u7", "seed": 1})),
        ({"param": {"a": {"b": ["{{ tone }}", 2]}}}, RowSettings(param={"a": {"b": ["calm", 2]}})),
        ({"param": {"seed": "{{ n | int }}"}}, RowSettings(param={"seed": 7})),
        ({"param": {"seed": "{{n}}"}}, RowSettings(param={"seed": 7})),
        ({"param": {"temperature": "0.{{n}}"}}, RowSettings(param={"temperature": 0.7})),
        (
            {"param": {"metadata": {"seed": "{{n}}"}, "user": "{{n}}"}},
            RowSettings(param={"metadata": {"seed": "7"}, "user": "7"}),
        ),
        ({"param": {"seed": "{{ big }}"}}, RowSettings(param={"seed": 8})),
        ({"param": {"stop": "{{ words }}"}}, RowSettings(param={"stop": ["a", "ß"]})),
        ({"param": {"x": "{{ n }}{{ big }}"}}, RowSettings(param={"x": "78"})),
        ({"param": {"x": "{{ gap }}"}}, RowSettings(param={"x": ""})),
        ({"instructions": "{% raw %}{{ tone }}{% endraw %}"}, RowSettings(instructions="{{ tone }}")),
        ({"instructions": 'JSON: {"a": {"b": {}}} %} }}', "model": "m"}, None),
    ],
)
def test_settings_of_a_row(settings: dict[str, Any], own: RowSettings | None) -> None:
    """A text with braces of a template is rendered for each row, a single expression keeps its type, and any other
    text is left alone."""
    assert rendered(**settings).own == own


@pytest.mark.parametrize(
    ("settings", "cells", "error_type"),
    [
        ({"instructions": "{{ tone }}"}, {"tone": " "}, "empty_instructions"),
        ({"model": "{{ tone }}"}, {"tone": None}, "empty_model"),
        ({"model": "{{ n.x.y }}"}, {}, "template_error"),
        ({"param": {"x": "{{ n | float }}"}}, {"n": "nan"}, "template_error"),
        ({"param": {"x": "{{ words.z }}"}}, {}, "template_error"),
        ({"param": {"temperature": "{{ n }}"}}, {"n": "warm"}, "template_error"),
        ({"param": {"temperature": "{{ n }}"}}, {"n": None}, "template_error"),
        ({"param": {"parallel_tool_calls": "{{ n }}"}}, {"n": "7"}, "template_error"),
        ({"instructions": "{{ tone }}"}, {"tone": "\ud800"}, "bad_text"),
    ],
)
def test_a_row_without_its_settings(settings: dict[str, Any], cells: dict[str, Any], error_type: str) -> None:
    """Empty instructions, an empty model and a template that fails are failures of that row, each with its name."""
    with pytest.raises(PromptError) as caught:
        rendered(cells, **settings)
    assert caught.value.error_type == error_type


def test_an_empty_number() -> None:
    """An empty cell for a parameter that is a number is named with the way to give a default."""
    with pytest.raises(PromptError) as caught:
        rendered({"n": ""}, param={"temperature": "{{ n }}"})
    assert str(caught.value) == (
        "--param temperature: expected a number, got ''; for rows without one write {{ n or 1 }}"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"instructions": "Be {{ tona }}"}, r"--instructions: no column named 'tona' .*'tone'.*mean {{ tone }}\?; for"),
        ({"instructions": "{{ a b }}"}, r"--instructions: syntax error.*{% raw %}"),
        ({"model": "{{ llm }}"}, r"--model: no column named 'llm'.*{% raw %}"),
        ({"param": {"a": {"b": ["{{ x }}"]}}}, r"--param a\.b\.0: no column named 'x'.*{% raw %}"),
        ({"instructions": "{{ responses[0] }}"}, r"--instructions: no column named 'responses'"),
    ],
)
def test_a_name_that_is_not_a_column(settings: dict[str, Any], message: str) -> None:
    """A name that is not a column is refused before the first row, with the columns, the likely one and the way to
    write literal braces."""
    with pytest.raises(InputError, match=message):
        rendered(**settings)


def test_fingerprints() -> None:
    """A column that only a setting uses changes the fingerprint of its own row, and of no row if it is not used."""
    settings: dict[str, Any] = {"instructions": "Be {{ tone }}.", "model": "{{ n }}", "param": {"x": "{{ big }}"}}
    first = rendered(**settings).fingerprint
    changed = [rendered({name: "other"}, **settings).fingerprint for name in ("tone", "n", "big")]
    assert len({first, *changed}) == 4
    assert rendered({"words": []}, **settings).fingerprint == first
    assert rendered(**{**settings, "instructions": "Be {{ 'calm' }}."}).fingerprint == first
    assert rendered(**{**settings, "temperature": 1}).fingerprint != first
