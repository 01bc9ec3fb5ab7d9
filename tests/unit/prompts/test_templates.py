"""Rendering prompts from rows and templates."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.errors import InputError
from batchrun.prompts.templates import PromptError, prompter_for
from batchrun.records import Prompt, Row, Turn
from batchrun.tables.values import ErrorCell
from tests.support.rows import prompter


def rendered(template: str, **values: Any) -> str:
    return prompter([template], list(values)).render(Row(0, values)).first.text


def refused(template: str, **values: Any) -> PromptError:
    with pytest.raises(PromptError) as caught:
        rendered(template, **values)
    return caught.value


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
    """Cells are rendered unchanged: not escaped, rounded or executed; a missing cell is empty text."""
    assert rendered(template, **values) == text


@pytest.mark.parametrize(
    ("template", "is_used"),
    [
        ("{{ q }}", False),
        ("row: {{ row['q'] }}", False),
        ('{% if row.q %}{{ row[ "q" ] }}{% endif %}', False),
        ("{{ row['n n'] }}{{ q }}", True),
        ("{{ row }}", True),
        ("{% for name in row %}{{ row[name] }}{% endfor %}", True),
        ("{{ row['q'] }}{{ row | length }}", True),
    ],
)
def test_a_cell_with_an_error(template: str, is_used: bool) -> None:
    """A row fails for an error of Excel in a cell that its prompt uses, and for no other cell."""
    values = {"q": "one", "n n": ErrorCell("#N/A")}
    if is_used:
        assert refused(template, **values).error_type == "error_cell"
    else:
        assert "one" in rendered(template, **values)


def test_a_thread_with_an_error() -> None:
    """An error of Excel is not the id of a thread."""
    reading = prompter_for({"prompt": "{{ q }}", "thread_column": "t"}, ["q", "t"], None)
    with pytest.raises(PromptError, match="column 't' has the error #N/A"):
        reading.render(Row(0, {"q": "one", "t": ErrorCell("#N/A")}))


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_any_text_arrives_whole(text: str) -> None:
    """Any text in a cell is sent unchanged."""
    if text.strip():
        assert rendered("{{ a }}", a=text) == text


@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_an_empty_prompt(text: str) -> None:
    """An empty prompt fails the row."""
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
    """A template that fails on a row, or loops endlessly, fails that row in one line."""
    error = refused(template, a="x")
    assert error.error_type == "template_error"
    assert "\n" not in str(error)


@pytest.mark.parametrize("value", ["x\ud83d", ["\ud83d"], {"k": "\ud83d"}])
def test_half_a_character(value: Any) -> None:
    """A lone surrogate, which cannot be sent, fails its row; the prompt is not changed silently."""
    template = (
        "{{ a }}" if isinstance(value, str) else "{% for x in a %}{{ x if a[0] is defined else a[x] }}{% endfor %}"
    )
    assert refused(template, a=value).error_type == "bad_text"


def test_half_a_character_in_an_unused_column() -> None:
    """A column that the prompt does not use does not matter, and a U+FFFD in the input is text like any other."""
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
def test_invalid_templates(template: str, words: str) -> None:
    """An unknown column or wrong syntax is found before anything is sent; other errors are found on a row."""
    if words == "fails":
        assert words in str(refused(template, a="x"))
        return
    with pytest.raises(InputError) as caught:
        prompter([template], ["a"])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_turn_for_each_template() -> None:
    """Several templates make several turns in order; later turns can use earlier answers."""
    prompt = prompter(["{{ a }}", "Explain {{ a }}: {{ responses[0] }}"], ["a"]).render(Row(4, {"a": "x"}))
    assert (prompt.row_key, prompt.row_index, prompt.first) == ("4", 4, Turn("x"))
    assert prompt.later is not None
    assert prompt.later.count == 2
    assert prompt.later.turn(2, ["y"]) == Turn("Explain x: y", 2)


def test_rows_by_a_key_column() -> None:
    """The cell of the key column is the key of the row; a missing key column is refused by name."""
    assert prompter(["x"], ["id"], "id").render(Row(4, {"id": "q7"})).row_key == "q7"
    with pytest.raises(InputError, match="--key: no column named 'nope'"):
        prompter(["x"], ["id"], "nope")


def fingerprint(text: str = "x", **settings: Any) -> str:
    made = prompter_for({"prompt": "{{ a }}", "model": "m", "temperature": None, **settings}, ["a"], None)
    return made.render(Row(0, {"a": text})).fingerprint


def test_what_decides_an_answer_is_in_the_fingerprint() -> None:
    """Another text, model or setting changes the fingerprint; another template with the same text does not."""
    others = [fingerprint("y"), fingerprint(model="m2"), fingerprint(temperature=0.5), fingerprint(instructions="i")]
    assert len({fingerprint(), *others}) == 5
    assert fingerprint(prompt="{{a}}") == fingerprint()


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    """The fingerprint is stored in journals: if it changed, every row of old batches would be run again."""
    assert fingerprint() == "a61e829b552df46723f21fe8ff0d20c5"


def test_turns_are_distinguished() -> None:
    """The boundaries of turns are part of the fingerprint."""
    one, two = (prompter(templates, ["a"]).render(Row(0, {"a": "x"})) for templates in (["x", "yz"], ["xy", "z"]))
    assert one.fingerprint != two.fingerprint


# -- rows that are more than one question ----------------------------------------------------------------------------


def asked(settings: dict[str, Any], row: int = 0, **values: Any) -> Prompt:
    """Return the prompt of a row of a batch with these settings."""
    return prompter_for({"model": "m", **settings}, list(values), None).render(Row(row, values))


def turns(*templates: str, when: str | None = None, **settings: Any) -> dict[str, Any]:
    """Return settings with a turn for each template, and the condition on the last."""
    each = [{"prompt": template} for template in templates]
    return {"turns": [*each[:-1], {**each[-1], "when": when}] if when is not None else each, **settings}


def test_later_turns_are_in_the_fingerprint() -> None:
    """Templates and conditions of later turns and the columns that they use are in the fingerprint; unused columns are not."""
    one = asked(turns("{{ a }}", "more {{ b }}"), a="x", b="y", c="z").fingerprint
    assert asked(turns("{{ a }}", "more {{ b }}"), a="x", b="y", c="other").fingerprint == one
    others = [
        asked(turns("{{ a }}", "more {{ b }}"), a="x", b="other", c="z"),
        asked(turns("{{ a }}", "less {{ b }}"), a="x", b="y", c="z"),
        asked(turns("{{ a }}", "more {{ b }}", when="responses[0]"), a="x", b="y", c="z"),
        asked(turns("{{ a }}", "more {{ b }}", when="c"), a="x", b="y", c="z"),
        asked(turns("{{ a }}", "more {{ b }}", "again"), a="x", b="y", c="z"),
        asked(turns("{{ a }}"), a="x", b="y", c="z"),
    ]
    assert len({one, *(other.fingerprint for other in others)}) == 7


def test_the_columns_of_conditions_are_in_the_fingerprint() -> None:
    """A cell that only decides whether a turn is sent is in the fingerprint."""
    settings = turns("{{ a }}", "more", when="c == 'yes'")
    assert asked(settings, a="x", c="yes").fingerprint != asked(settings, a="x", c="no").fingerprint


def test_rows_that_later_turns_use_as_a_whole() -> None:
    """If a later turn uses the whole row, every cell is in the fingerprint."""
    settings = turns("{{ a }}", "{{ row['Full name'] }}")
    one, other = (asked(settings, 0, **{"a": "x", "Full name": "Ada", "c": c}) for c in "yz")
    assert one.fingerprint != other.fingerprint


def test_the_template_of_the_first_turn_is_not_in_the_fingerprint() -> None:
    """The rendered text of the first turn is in the fingerprint, its template is not."""
    one, other = (asked(turns(first, "more"), a="x").fingerprint for first in ("{{ a }}", "{{a}}"))
    assert one == other


def test_threads_and_files_are_in_the_fingerprint(tmp_path: Path) -> None:
    """The same prompt in another thread, or with another file, has another fingerprint."""
    threads = {"prompt": "q", "thread_column": "t"}
    files = {"prompt": "q", "attach": ["t"]}
    found = [asked(threads, t="thread_1"), asked(threads, t="thread_2"), asked(threads, t=""), asked(files, t="a.png")]
    found += [asked(files, t="b.png"), asked(files, t=""), asked(files, t="a.png\nb.png")]
    assert len({prompt.fingerprint for prompt in found}) == 7


@pytest.mark.parametrize(
    ("cell", "thread_id"), [("thread_1", "thread_1"), (" conv_2\n", "conv_2"), ("  ", None), (None, None)]
)
def test_the_thread_of_a_row(cell: str | None, thread_id: str | None) -> None:
    """The cell names the thread; an empty cell starts a new one."""
    assert asked({"prompt": "q", "thread_column": "t"}, t=cell).thread_id == thread_id


def test_each_epoch_has_its_fingerprint() -> None:
    """Each repetition has its own fingerprint; that of the first one is the same without epochs."""
    made = prompter_for({"prompt": "{{ a }}", "epochs": 3}, ["a", "epoch"], None)
    prompts = [made.render(Row(row, {"a": "x", "epoch": row + 1})) for row in range(3)]
    assert len({prompt.fingerprint for prompt in prompts}) == 3
    assert [prompt.row_key for prompt in prompts] == ["0", "0|epoch=2", "0|epoch=3"]
    once = prompter_for({"prompt": "{{ a }}"}, ["a"], None).render(Row(0, {"a": "x"}))
    assert (once.row_key, once.fingerprint) == (prompts[0].row_key, prompts[0].fingerprint)


def test_more_epochs_change_no_row_of_several_turns() -> None:
    """Even if a later turn uses the whole row, added columns do not change the fingerprint."""
    settings = turns("{{ a }}", "{{ row['a'] }}")
    once = prompter_for(settings, ["a"], None).render(Row(0, {"a": "x"}))
    twice = prompter_for({**settings, "epochs": 2}, ["a", "epoch"], None).render(Row(0, {"a": "x", "epoch": 1}))
    assert once.fingerprint == twice.fingerprint


def test_a_row_in_every_combination() -> None:
    """Each combination has its template, model and files; keys and variants follow the order of the rows."""
    settings = {
        "prompt": None,
        "matrix": {"prompt": ["A {{ q }}", "B {{ q }} of {{ axis_model }}"], "model": ["m", "n"]},
    }
    columns = ["q", "axis_prompt", "axis_model"]
    made = prompter_for(settings, columns, "q")
    prompts = [made.render(Row(row, {"q": "x", "axis_prompt": "?", "axis_model": "mn"[row % 2]})) for row in range(4)]
    assert [prompt.first.text for prompt in prompts] == ["A x", "A x", "B x of m", "B x of n"]
    assert [(prompt.variant, prompt.model) for prompt in prompts] == [(0, "m"), (1, "n"), (2, "m"), (3, "n")]
    assert len({prompt.fingerprint for prompt in prompts}) == len({prompt.row_key for prompt in prompts}) == 4


def test_files_of_a_combination(tmp_path: Path) -> None:
    """A combination attaches its own files only."""
    made = prompter_for({"prompt": "q", "matrix": {"attach": [["a"], ["a", "b"]]}}, ["a", "b"], None)
    prompts = [made.render(Row(row, {"a": "a.png", "b": "b.pdf"})) for row in range(2)]
    assert [[each.source for each in prompt.first.attachments] for prompt in prompts] == [["a.png"], ["a.png", "b.pdf"]]


def test_responses_are_for_later_turns() -> None:
    """In the first turn `responses` is the name of a column."""
    with pytest.raises(InputError, match="--prompt: no column named 'responses' in the input"):
        prompter(["{{ responses[0] }}"], ["a"])
    with pytest.raises(InputError, match="turn 2: when: no column named 'nope'"):
        prompter_for(turns("{{ a }}", "more", when="nope"), ["a"], None)


def test_a_column_named_responses() -> None:
    """The first turn can use it like any other column; later turns can use it through the row."""
    later = asked(turns("{{ responses }}", "{{ responses[0] }}, {{ row['responses'] }}"), responses="cell")
    assert later.first.text == "cell"
    assert later.later is not None
    assert later.later.turn(2, ["answer"]) == Turn("answer, cell", 2)
    other = asked(turns("x", "{{ responses[0] }}, {{ row['responses'] }}"), responses="another")
    assert later.fingerprint != other.fingerprint


@pytest.mark.parametrize("when", ["responses[0] ==", "", "x %}{% if true"])
def test_invalid_conditions(when: str) -> None:
    """A condition that is not an expression is found before anything is sent; an empty one is always true."""
    settings = turns("{{ a }}", "more", when=when)
    if not when:
        assert asked(settings, a="x").later.turn(2, ["y"]) == Turn("more", 2)  # type: ignore[union-attr]
        return
    with pytest.raises(InputError, match="turn 2: when: "):
        asked(settings, a="x")


def test_a_name_with_a_space_is_explained() -> None:
    """For `{{ Unit price }}`, which is not valid, the message shows the right placeholder."""
    with pytest.raises(InputError, match=r"write the column 'Unit price' as row\['Unit price'\]"):
        prompter(["What is {{ Unit price }}?"], ["Unit price"])


def test_texts_among_conversations() -> None:
    """Where a template and a column of conversations are given, a text has the same fingerprint as without the latter."""
    talk = [{"role": "user", "content": "2+2?"}]
    only = prompter_for({"prompt": "{{ prompt }}"}, ["prompt"], None)
    mixed = prompter_for({"prompt": "{{ prompt }}", "messages": "prompt"}, ["prompt"], None)
    text = mixed.render(Row(0, {"prompt": "1+1?"}))
    assert text == only.render(Row(0, {"prompt": "1+1?"}))
    assert mixed.render(Row(1, {"prompt": talk})).first.messages == tuple(talk)
