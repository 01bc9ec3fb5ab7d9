"""Placeholders of columns, the default prompt, and hints for a prompt that is mistyped or missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.prompts.placeholders import (
    default_template,
    no_prompt,
    placeholder_hint,
    placeholder_of,
    prompt_option,
)
from batchrun.records import Row
from batchrun.tables import ReadOptions, Source, open_source
from tests.support.rows import prompter


def table(path: Path, text: str) -> Source:
    path.write_text(text, encoding="utf-8")
    return open_source(path, ReadOptions())


def rendered(template: str | None, **values: Any) -> str:
    assert template is not None
    return prompter([template], list(values)).render(Row(0, values)).first.text


@pytest.mark.parametrize(
    ("columns", "template"),
    [
        (["id", "question", "prompt"], "{{ prompt }}"),
        (["id", "question"], "{{ question }}"),
    ],
)
def test_the_usual_columns(columns: list[str], template: str) -> None:
    """Without a template the prompt is the column `prompt`, otherwise `question`."""
    assert default_template(columns) == template


@pytest.mark.parametrize("name", ["q", "Full name", "it's", 'say "x"', "row", "true", "日本", "a\\b", "x }} y"])
def test_the_only_column(name: str) -> None:
    """The only column is the prompt, whatever its name."""
    assert rendered(default_template([name]), **{name: "What?"}) == "What?"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_the_placeholder_of_any_column(name: str) -> None:
    """The placeholder of a column renders its cell, whatever characters the name has."""
    assert rendered(placeholder_of(name), **{name: "What?"}) == "What?"


@pytest.mark.parametrize(
    "name", ["not", "true", "None", "self", "for", "range", "row", "loop", "debug", "日本", "name"]
)
def test_the_placeholder_of_a_column_with_a_name_of_the_engine(name: str) -> None:
    """A column whose name is a word of the template engine is rendered too."""
    assert rendered(placeholder_of(name), **{name: "What?"}) == "What?"


def test_no_usual_column(tmp_path: Path) -> None:
    """If several columns have other names, the message lists them and names the column with the most text."""
    error = no_prompt(table(tmp_path / "q.csv", "id,Full question,a\n100000000000000000000000000000,What is 2+3?,5\n"))
    assert "columns: 'id', 'Full question', 'a'" in str(error)
    assert """for example --prompt "{{ row['Full question'] }}\"""" in str(error)


def test_a_column_of_conversations_with_another_name(tmp_path: Path) -> None:
    """If the cells of a column are lists of messages, the message names the option that asks them."""
    (tmp_path / "q.jsonl").write_text('{"id": 1, "chosen": [{"role": "user", "content": "1+1?"}]}\n', encoding="utf-8")
    error = no_prompt(open_source(tmp_path / "q.jsonl", ReadOptions()))
    assert "the cells of 'chosen' are lists of messages: give --messages chosen, or a prompt" in str(error)


def test_a_header_that_looks_like_a_row(tmp_path: Path) -> None:
    """`--no-header` comes first, with the name that the longest column has then."""
    text = str(no_prompt(table(tmp_path / "q.csv", "1,What is 2+3?\n2,What is 4*5?\n")))
    assert text.index("--no-header --prompt '{{ column_2 }}'") < text.index('''--prompt "{{ row['What is 2+3?'] }}"''')


def test_the_option_has_the_quotes_that_work_in_most_shells() -> None:
    """Double quotes outside are for every shell; single ones only where a character needs them."""
    assert prompt_option("question") == "--prompt '{{ question }}'"
    assert prompt_option("Full question") == '''--prompt "{{ row['Full question'] }}"'''
    assert prompt_option("Price $") == """--prompt '{{ row["Price $"] }}'"""


@pytest.mark.parametrize(
    "text", ["{question}", "{ Question }", "<question>", "%(question)s", "$question", "${question}"]
)
@pytest.mark.parametrize("around", ["{}", "Answer: {} please", '{{"json": 1}} {}'])
def test_a_placeholder_of_another_tool(text: str, around: str) -> None:
    """It is recognized by the column that it names, and the hint shows the right placeholder."""
    template = around.replace("{}", text).replace("{{", "{").replace("}}", "}")
    assert placeholder_hint([template], ["id", "question"]) == f"write {{{{ question }}}} instead of {text}"


IN_RAW = "{{question}} is in a comment or in raw text, or a variable of that name is set before it"


@pytest.mark.parametrize(
    ("templates", "columns", "hint"),
    [
        (["{qestion}"], ["id", "question"], "write {{ question }} instead of {qestion}"),
        (["Hi.", "{question}"], ["question"], "write {{ question }} instead of {question}"),
        (["{% raw %}{{question}}{% endraw %}"], ["question"], IN_RAW),
        (["{{ qestion }}"], ["question"], "write {{ question }} instead of {{ qestion }}"),
        (["{Full name}"], ["Full name"], "write {{ row['Full name'] }} instead of {Full name}"),
        (["{zzz}"], ["question"], "write a column as {{ question }}"),
        (["Tell a joke."], ["Full name"], "write a column as {{ row['Full name'] }}"),
    ],
)
def test_the_hint_names_a_column(templates: list[str], columns: list[str], hint: str) -> None:
    """The hint names the nearest column, wherever it is, or shows an example of a placeholder."""
    assert placeholder_hint(templates, columns) == hint
