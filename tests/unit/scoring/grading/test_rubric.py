"""Rubrics: the grader's prompt for a row."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.errors import InputError
from batchrun.scoring import Sample
from batchrun.scoring.grading.ready_rubrics import DEFAULT_RUBRIC, READY_RUBRICS
from batchrun.scoring.grading.rubric import Rubric, RubricError
from batchrun.scoring.score_options import Ready

COLUMNS = ("question", "truth", "response", "topic", "two words")


def rubric(template: str = DEFAULT_RUBRIC, **options: Any) -> Rubric:
    settings = {"where": "g.toml", "question": None, "target": "truth", "grade_line": "END SO", "grades": ["C", "I"]}
    return Rubric(template, COLUMNS, **{**settings, **options})


def sample(answer: str = "a", target: Any = "t", **row: Any) -> Sample:
    return Sample(answer, target, {**dict.fromkeys(COLUMNS), "question": "q", **row})


def fenced(text: str) -> dict[str, str]:
    """Return the texts that the default rubric encloses."""
    mark = re.search(r"bear the mark (\w+)\.", text)
    assert mark is not None
    parts = re.split(rf"^--- {mark[1]} (\w+) ---\n", text, flags=re.M)
    return {name: part.removesuffix("\n") for name, part in zip(parts[1::2], parts[2::2], strict=True)}


@given(st.text(), st.text(), st.text())
def test_texts_are_fenced_in(answer: str, target: str, question: str) -> None:
    """Question, reference and answer are complete and between their own lines, whatever they contain."""
    found = fenced(rubric().render(sample(f"a{answer}", f"t{target}", question=f"q{question}")))
    assert (found["question"], found["reference"], found["answer"]) == (f"q{question}", f"t{target}", f"a{answer}")


def test_a_fence_in_an_answer_is_not_used() -> None:
    """A row that contains a fence gets one that it does not contain."""
    first = rubric("{{ fence }}").render(sample())
    again = rubric("{{ fence }}").render(sample(topic=first))
    assert first != again
    assert again not in first


def test_the_same_texts_give_the_same_prompt() -> None:
    """Columns that the rubric does not use do not change the prompt."""
    assert rubric().render(sample(topic="a")) == rubric().render(sample(topic="b"))


def test_what_a_rubric_knows() -> None:
    """A rubric has columns by name and in `row`, the answer, the target, the question, the grades and the grade
    line."""
    names = ("response", "target", "question", "topic", "row['two words']", "grades|join", "grade_line")
    template = "|".join(f"{{{{ {name} }}}}" for name in names)
    text = rubric(template).render(sample("ans", ["x", 2.0], topic=None, **{"two words": 3}))
    assert text == "ans|x or 2|q||3|CI|END SO"


def test_another_column_may_be_the_question() -> None:
    """The question is the named column, else `prompt` or `question`."""
    assert rubric("{{ question }}", question="topic").render(sample(topic="T")) == "T"
    assert rubric("{{ question }}", question="two words").render(sample(**{"two words": "T"})) == "T"


def test_a_question_may_be_a_template() -> None:
    """It may combine several columns, as in a batch, and their contents are never executed."""
    found = rubric("<{{ question }}>", question="About {{ topic }}: {{ row['two words'] }}")
    assert found.render(sample(topic="{{ 1 }}", **{"two words": "x"})) == "<About {{ 1 }}: x>"


def test_partial_credit_is_offered_where_it_is_read() -> None:
    """The default rubric explains P only to graders whose P counts."""
    assert "P (partly correct)" in rubric(grades=["C", "P", "I"]).render(sample())
    assert "P (partly" not in rubric().render(sample())


def test_templates_in_an_answer_are_text() -> None:
    """A template in an answer is never executed."""
    assert rubric("{{ response }}").render(sample("{{ 1 + 1 }}{% raw %}")) == "{{ 1 + 1 }}{% raw %}"


@pytest.mark.parametrize(
    ("template", "options", "expected"),
    [
        ("{{ respons }}", {}, "g.toml: the table has no column 'respons' (columns: 'question', "),
        ("{{ response", {}, "g.toml: syntax error"),
        ("{{ target }}", {"target": None}, "g.toml: needs a target: name its column with --target COLUMN"),
        ("{{ question }}", {"question": "ask"}, "--question ask: the table has no such column"),
        ("{{ question }}", {"question": "{{ ask }}"}, "--question: the table has no column 'ask' (columns: "),
        ("{{ question }}", {"question": "{{ topic"}, "--question: syntax error"),
    ],
)
def test_a_wrong_rubric_gets_one_line(template: str, options: dict[str, Any], expected: str) -> None:
    """The message names the file and the fault before any request is sent."""
    with pytest.raises(InputError) as caught:
        rubric(template, **options)
    assert expected in str(caught.value)


def test_a_table_without_a_question_needs_one_named() -> None:
    """The default rubric contains the question, so its column must be known."""
    with pytest.raises(InputError, match="name its column with --question COLUMN"):
        Rubric(DEFAULT_RUBRIC, ("a", "b"), where="g", question=None, target="a", grade_line="", grades=[])


@pytest.mark.parametrize(
    ("template", "reason"), [("{{ row.nothing }}", "fails on this row"), ("{{ topic }}", "is empty")]
)
def test_a_row_whose_rubric_cannot_be_rendered(template: str, reason: str) -> None:
    """Only that row fails, with its reason."""
    with pytest.raises(RubricError, match=reason):
        rubric(template).render(sample())


@pytest.mark.parametrize("name", sorted(READY_RUBRICS))
def test_a_ready_rubric_explains_its_grades(name: str) -> None:
    """Each grade of a ready rubric has a line of its own, and outside texts are between fences."""
    ready = READY_RUBRICS[name]
    row = sample("the answer", "the target", topic="the context")
    text = rubric(ready.text, context="topic", grades=list(ready.choices)).render(row)
    assert [line[0] for line in text.splitlines() if re.match(r"[A-Z](:| \()", line)] == list(ready.choices)
    found = fenced(text)
    assert found["answer"] == "the answer"
    other = {"correctness": "reference", "factuality": "reference", "closed-qa": "criterion", "faithfulness": "context"}
    assert found[other[name]] == ("the context" if name == "faithfulness" else "the target")


def test_a_list_of_passages_is_a_context() -> None:
    """The members of a list are paragraphs; a row without a context is not judged."""
    about = rubric("{{ context }}|{{ response }}", context="topic")
    assert about.render(sample("a", topic=["x", "y"])) == "x\n\ny|a"
    for blank in (None, " ", [], [""]):
        with pytest.raises(RubricError, match="the context is blank"):
            about.render(sample("a", topic=blank))


def test_a_column_named_context_is_like_every_other() -> None:
    """A rubric of the user's may use a column `context` that is empty in some rows."""
    about = Rubric("<{{ context }}>", ("context",), where="g", question=None, target=None, grade_line="", grades=[])
    assert about.render(Sample("a", None, {"context": None})) == "<>"


def test_a_context_needs_a_column() -> None:
    """A rubric that uses a context names the missing column, and the option for it."""
    with pytest.raises(InputError, match="no column is named 'context'; name its column with --context COLUMN"):
        rubric("{{ context }}")
    with pytest.raises(InputError, match="no column is named 'docs'; name its column with --context COLUMN"):
        rubric("{{ context }}", context="docs")


def test_the_page_has_the_texts_of_the_rubrics() -> None:
    """docs/guides/model-graded.md has the text of every ready rubric, and the values of its grades."""
    page = (Path(__file__).parents[4] / "docs" / "guides" / "model-graded.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^### (\S+)\n```text\n(.*?)```$", page, re.M | re.S)) == {
        name: ready.text for name, ready in READY_RUBRICS.items()
    }
    for name, ready in READY_RUBRICS.items():
        grades = ", ".join(f"{grade} {value:g}" for grade, value in ready.choices.items())
        assert f"| `{name}` | {grades} |" in page
    assert get_args(Ready) == tuple(READY_RUBRICS)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_conversation_is_the_question(as_json: bool) -> None:
    """In a table with messages, the grader sees all turns as text, and not the answer at the end of the list."""
    talk = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "And 2 + 2?"},
        {"role": "assistant", "content": "the reference"},
    ]
    made = Rubric(
        DEFAULT_RUBRIC, ("messages", "truth"), where="g", question=None, target="truth", grade_line="", grades=["C"]
    )
    cell = json.dumps(talk) if as_json else talk
    found = fenced(made.render(Sample("4", "4", {"messages": cell, "truth": "4"})))
    assert found["question"] == ("system:\nBe short.\n\nuser:\n1 + 1?\n\nassistant:\n2\n\nuser:\nAnd 2 + 2?")


def test_messages_that_cannot_be_read_are_not_graded() -> None:
    """A row whose messages are damaged is not judged, with the reason; a text in their column is the question."""
    made = Rubric("{{ question }}", ("messages",), where="g", question=None, target=None, grade_line="", grades=["C"])
    with pytest.raises(RubricError, match=r"the messages in 'messages' cannot be read: message 1"):
        made.render(Sample("a", None, {"messages": [{"role": "nobody", "content": "x"}]}))
    assert made.render(Sample("a", None, {"messages": "1 + 1?"})) == "1 + 1?"
