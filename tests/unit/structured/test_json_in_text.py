"""The JSON object in the text of an answer."""

from __future__ import annotations

import pytest

from batchrun.structured import SchemaMismatch
from tests.support.shapes import ANSWER, CELLS, REVIEW

# Answers.


@pytest.mark.parametrize(
    "text",
    [
        ANSWER,
        f"\ufeff\n {ANSWER} \n",
        f"```json\n{ANSWER}\n```",
        f"Here you are:\n```\n{ANSWER}\n```\nAnything else?",
        f'For example {{"score": 1}}. The answer:\n```json\n{ANSWER}\n```',
        f"Sure! {ANSWER} That is it, {{name}}.",
        f"{ANSWER}\nThat is it.",
        f"```python\nprint({{}})\n```\n{ANSWER}",
        f"```json {ANSWER}```",
    ],
)
def test_the_object_is_found_in_the_text(text: str) -> None:
    """The object may be the whole text, in a fenced block, or the only object in prose."""
    assert REVIEW.read(text) == CELLS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the answer is empty; expected one JSON object"),
        ("I cannot say.", "expected one JSON object, got the text 'I cannot say.'"),
        ("[" + ANSWER + "]", "expected one JSON object, got a list of 1"),
        ("null", "expected one JSON object, got null"),
        (f"{ANSWER}\n{ANSWER}", "expected one JSON object, got 2 of them"),
        (f"```json\n{ANSWER}\n```\nor\n```json\n{ANSWER}\n```", "expected one JSON object, got 2 of them"),
        (ANSWER[:-1], "the answer is not valid JSON: line 1, column 48: Expecting ',' delimiter"),
        ('{"a": ' + ANSWER, "the answer is not valid JSON: line 1"),
        ('{"a": "' + ANSWER, "the answer is not valid JSON: line 1"),
        ("[" + ANSWER + ", ", "the answer is not valid JSON: line 1"),
        ('{"score": 1, "score": 2}', "the key 'score' appears twice in one object"),
        ('{"score": NaN}', "NaN is not a JSON number"),
        ('{"score": -Infinity}', "-Infinity is not a JSON number"),
        ('{"score": 1e999}', "the number '1e999' is too large"),
        ('{"score": ' + "9" * 5000 + "}", "a number has thousands of digits"),
        ('so: {"score": ' + "9" * 5000 + "}", "a number has thousands of digits"),
        (ANSWER.replace("clear", "\\ud83d"), "half of a character"),
        (ANSWER.replace("clear", "\ud83d"), "half of a character"),
        ("[" * 100_000, "nested too deeply"),
        ('{"tags": ' * 100_000, "nested too deeply"),
        ('x {"tags": ' * 100_000, "not valid JSON"),
        ("{" * 100_000, "not valid JSON"),
        ('{"a ' * 100_000, "not valid JSON"),
        ("```\n" * 100_000, "expected one JSON object"),
    ],
)
def test_no_object_or_several_are_a_mismatch(text: str, message: str) -> None:
    """Nothing is guessed: a truncated answer is not read by its inner objects."""
    with pytest.raises(SchemaMismatch) as caught:
        REVIEW.read(text)
    assert message in str(caught.value)
