"""From a row and a template to a prompt."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.errors import InputError
from batchrun.prompts import PromptError, default_template, prompter_for
from batchrun.records import Row, Turn
from tests.support.rows import prompter


def rendered(template: str, **values: Any) -> str:
    return prompter([template], list(values)).render(Row(0, values)).first.text


def refused(template: str, **values: Any) -> PromptError:
    with pytest.raises(PromptError) as caught:
        rendered(template, **values)
    return caught.value


@pytest.mark.parametrize(
    ("columns", "template"),
    [
        (["id", "question", "prompt"], "{{ prompt }}"),
        (["id", "question"], "{{ question }}"),
    ],
)
def test_the_usual_columns(columns: list[str], template: str) -> None:
    """Without a template the column `prompt` is asked, else `question`."""
    assert default_template(columns) == template


@pytest.mark.parametrize("name", ["q", "Full name", "it's", 'say "x"', "row", "true", "日本", "a\\b", "x }} y"])
def test_the_only_column(name: str) -> None:
    """The only column is asked, whatever its name is."""
    assert rendered(default_template([name]), **{name: "What?"}) == "What?"


def test_no_usual_column() -> None:
    """Several columns and none with a usual name: the error lists them and shows what to write."""
    with pytest.raises(InputError) as caught:
        default_template(["a", "Full name"])
    assert "columns: 'a', 'Full name'" in str(caught.value)
    assert "--prompt '{{ a }}'" in str(caught.value)


@pytest.mark.parametrize(
    ("template", "values", "text"),
    [
        ("{{ a }} and {{ b }}", {"a": "x", "b": "y"}, "x and y"),
        ("{{ row['Full name'] }}", {"Full name": "Ada"}, "Ada"),
        ("{{ n }}", {"n": "007"}, "007"),
        ("{{ n }}", {"n": 12345678901234567890}, "12345678901234567890"),
        ("{{ a }}", {"a": "<b> & \"c\" 'd'"}, "<b> & \"c\" 'd'"),
        ("{{ a }}", {"a": "{{ b }} {% raw %}"}, "{{ b }} {% raw %}"),
        ("[{{ a }}{{ b }}]", {"a": None, "b": float("nan")}, "[]"),
        ("{{ a }}", {"a": Decimal("1.50")}, "1.50"),
        ("{{ a }}", {"a": date(2026, 11, 23)}, "2026-11-23"),
        ("{{ a.b[0] }}", {"a": {"b": ["deep"]}}, "deep"),
        ("{% for x in range(3) %}{{ x }}{% endfor %}{{ a }}", {"a": ""}, "012"),
        ("{{ a }}\n", {"a": "two\nlines\n\n"}, "two\nlines\n\n"),
        ("{{ a | upper }}", {"a": "é"}, "É"),
    ],
)
def test_rendering(template: str, values: dict[str, Any], text: str) -> None:
    """Cells come into the prompt as they are: nothing escaped, rounded or executed; a missing one is empty text."""
    assert rendered(template, **values) == text


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_any_text_arrives_whole(text: str) -> None:
    """Whatever a cell holds is what is asked."""
    if text.strip():
        assert rendered("{{ a }}", a=text) == text


@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_an_empty_prompt(text: str) -> None:
    """Nothing to ask fails the row."""
    assert refused("{{ a }}", a=text).error_type == "empty_prompt"


@pytest.mark.parametrize(
    "template",
    [
        "{{ a.nope.deeper }}",
        "{{ a + 1 }}",
        "{% for i in range(10000) %}{% for j in range(10000) %}{% endfor %}{% endfor %}",
    ],
)
def test_a_template_that_fails_on_a_row(template: str) -> None:
    """A template that fails on a row, or would never end, fails that row in one line."""
    error = refused(template, a="x")
    assert error.error_type == "template_error"
    assert "\n" not in str(error)


@pytest.mark.parametrize("value", ["x\ud83d", ["\ud83d"], {"k": "\ud83d"}])
def test_half_a_character(value: Any) -> None:
    """A lone surrogate, which cannot be sent, fails its row rather than changing what is asked."""
    template = (
        "{{ a }}" if isinstance(value, str) else "{% for x in a %}{{ x if a[0] is defined else a[x] }}{% endfor %}"
    )
    assert refused(template, a=value).error_type == "bad_text"


def test_half_a_character_in_a_column_that_is_not_asked() -> None:
    """What is not part of the prompt does not matter, and a U+FFFD of the user's own is text like any other."""
    assert rendered("{{ a }}", a="x", b="\ud83d") == "x"
    assert rendered("{{ a }}", a="\ufffd") == "\ufffd"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ nope }}", "no column named 'nope' in the input (columns: 'a')"),
        ("{{ a ", "(line 1 of the template)"),
        ("ok\n{% if %}", "(line 2 of the template)"),
        ("{% include 'x' %}", "fails"),
    ],
)
def test_templates_that_cannot_be(template: str, words: str) -> None:
    """An unknown column or wrong syntax is found before anything is asked; what only shows on a row, on a row."""
    if words == "fails":
        assert words in str(refused(template, a="x"))
        return
    with pytest.raises(InputError) as caught:
        prompter([template], ["a"])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_turn_for_each_template() -> None:
    """Several templates make several turns, in order; later ones see the answers before them."""
    prompt = prompter(["{{ a }}", "Explain {{ a }}: {{ responses[0] }}"], ["a"]).render(Row(4, {"a": "x"}))
    assert (prompt.row_key, prompt.row_index, prompt.first) == ("4", 4, Turn("x"))
    assert prompt.later is not None
    assert prompt.later.count == 2
    assert prompt.later.turn(2, ["y"]) == Turn("Explain x: y", 2)


def test_rows_by_a_key_column() -> None:
    """With a key column its cell is the row's id; a key column that is not there is refused by name."""
    assert prompter(["x"], ["id"], "id").render(Row(4, {"id": "q7"})).row_key == "q7"
    with pytest.raises(InputError, match="--key: no column named 'nope'"):
        prompter(["x"], ["id"], "nope")


def fingerprint(text: str = "x", **settings: Any) -> str:
    made = prompter_for({"prompt": "{{ a }}", "model": "m", "temperature": None, **settings}, ["a"], None)
    return made.render(Row(0, {"a": text})).fingerprint


def test_what_decides_an_answer_is_in_the_fingerprint() -> None:
    """Another text, model or setting is another question; the wording of the template alone is not."""
    others = [fingerprint("y"), fingerprint(model="m2"), fingerprint(temperature=0.5), fingerprint(instructions="i")]
    assert len({fingerprint(), *others}) == 5
    assert fingerprint(prompt="{{a}}") == fingerprint()


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    """The fingerprint is written to files: a change of its making would ask every row of old batches again."""
    assert fingerprint() == "a61e829b552df46723f21fe8ff0d20c5"


def test_turns_are_told_apart() -> None:
    """Where one turn ends and the next begins is part of the question."""
    one, two = (prompter(templates, ["a"]).render(Row(0, {"a": "x"})) for templates in (["x", "yz"], ["xy", "z"]))
    assert one.fingerprint != two.fingerprint


def test_a_name_with_a_space_is_explained() -> None:
    """`{{ Unit price }}` is no template; the line says how such a column is written."""
    with pytest.raises(InputError, match=r"written row\['Unit price'\]"):
        prompter(["What is {{ Unit price }}?"], ["Unit price"])
