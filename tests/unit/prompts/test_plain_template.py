"""A plain template gives the text of the template engine."""

from __future__ import annotations

from typing import Any

import pytest

from batchrun.job.fingerprint import settings_of
from batchrun.job.options import Job
from batchrun.prompts.plain_template import PlainTemplate
from batchrun.prompts.template_engine import template_environment
from batchrun.prompts.templates import prompter_for
from batchrun.records import Row

COLUMNS = ("a", "b")


@pytest.mark.parametrize(
    "template",
    ["{{ a }}", "{{a}} and {{  b  }}.", "}} {{ a }} }", "a\r\n{{ a }}\n\n {{ b }} ", "#}%}{{ a }}-{{ b }}", "é{{ a }}"],
)
@pytest.mark.parametrize("cells", [("1", "<&>\n"), ("{{ b }}", "\ufffe"), (" é", "\r\n"), ("{% if %}", "x\t")])
def test_a_plain_template_renders_as_the_engine_does(template: str, cells: tuple[str, str]) -> None:
    """The text of a plain template is, character by character, the one that the engine renders."""
    environment = template_environment()
    environment.add_template("template", template)
    values = dict(zip(COLUMNS, cells, strict=True))
    plain = PlainTemplate.of(template, COLUMNS)
    assert plain is not None
    assert plain.text(values) == environment.render_template("template", row=values, **values)


@pytest.mark.parametrize(
    "template",
    ["{{ a|upper }}", "{{- a }}", "{{{ a }}", "{# c #}{{ a }}", "{{ a }}\n", "{{ none }}", "{{ row['a'] }}", "{{ é }}"],
)
def test_other_templates_are_left_to_the_engine(template: str) -> None:
    """A template with anything but texts and columns is not plain."""
    assert PlainTemplate.of(template, (*COLUMNS, "none", "é")) is None


@pytest.mark.parametrize("cells", [{"a": 1}, {"a": None}, {"a": " \n"}, {"a": "\ud800"}, {"a": "x\ufffd"}])
def test_cells_that_need_the_engine_give_no_text(cells: dict[str, object]) -> None:
    """A cell that is not a text, a blank prompt and what may be half of a surrogate pair are left to the engine."""
    plain = PlainTemplate.of("{{ a }}", ["a"])
    assert plain is not None
    assert plain.text(cells) is None


def test_the_plain_fingerprint_is_that_of_the_prompt() -> None:
    """A row is recognized by the same fingerprint with and without its prompt."""
    settings = settings_of(Job(model="m", prompt="Q: {{ a }}?"))
    prompter = prompter_for(settings, COLUMNS, None)
    row = Row(3, {"a": "é", "b": "2"})
    assert prompter.plain_fingerprint(row) == prompter.render(row).fingerprint


@pytest.mark.parametrize(
    "options", [{}, {"instructions": "Be brief.", "examples": (("q", "a"),)}, {"matrix": {"model": ["m", "n"]}}]
)
def test_a_plain_prompt_is_the_one_that_the_engine_makes(options: dict[str, Any]) -> None:
    """A template of texts and columns gives the prompt, in every field, of one with the same text that is not plain."""
    settings = settings_of(Job(**{"model": "m", "prompt": "Q: {{ a }}?", **options}))
    by_engine = {**settings, "prompt": "Q: {{ a }}{{ '' }}?"}
    row = Row(3, {"a": "é", "b": "2"})
    assert prompter_for(settings, COLUMNS, None).render(row) == prompter_for(by_engine, COLUMNS, None).render(row)


def test_a_row_that_needs_the_engine_has_no_plain_fingerprint() -> None:
    """A cell that is not a text is left to the engine."""
    prompter = prompter_for(settings_of(Job(model="m", prompt="Q: {{ a }}?")), COLUMNS, None)
    assert prompter.plain_fingerprint(Row(3, {"a": 1, "b": "2"})) is None
