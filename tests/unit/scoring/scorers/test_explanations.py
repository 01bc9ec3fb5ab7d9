"""Explanations: what a score says about its reason and about the part of the answer that was read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import InputError
from batchrun.scoring import Sample, Score
from batchrun.scoring.scorers.registry import make_scorers


def score(spec: str, answer: str, target: Any) -> Score:
    """Return the score of one answer by the scorer of that name."""
    with make_scorers([spec])[0].scorer as scorer:
        return scorer.score(Sample(answer, target, {}))


@pytest.mark.parametrize(
    ("spec", "answer", "target", "value", "explanation", "read"),
    [
        ("exact", " Paris ", "Paris", 1.0, "equal", "Paris"),
        ("exact", "Rome", "Paris", 0.0, "expected 'Paris'", "Rome"),
        ("exact", "Rome", ["Paris", "Lyon"], 0.0, "expected 'Paris' or 'Lyon'", "Rome"),
        ("ne", "Paris", "Rome", 1.0, "different", "Paris"),
        ("ne", "Paris", "Paris", 0.0, "equal to 'Paris'", "Paris"),
        ("includes", "It is paris", "Paris", 1.0, "'Paris' occurs", "Paris"),
        ("includes", "It is Rome", "Paris", 0.0, "'Paris' does not occur", None),
        ("includes", "It is Rome", ["Paris", "Lyon"], 0.0, "'Paris' or 'Lyon' does not occur", None),
        ("contains-all", "Red and blue", ["red", "blue"], 1.0, "all occur", "red, blue"),
        ("contains-all", "Red", ["red", "blue"], 0.0, "lacks 'blue'", "red"),
        ("contains-any", "green", ["red", "blue"], 0.0, "none of 'red', 'blue'", None),
        ("contains-any", "a red one", ["red", "blue"], 1.0, "'red' occurs", "red"),
        ("starts-with", "Yes, it is", "yes", 1.0, "begins with 'yes'", "yes"),
        ("starts-with", "Well", ["yes", "no"], 0.0, "does not begin with 'yes' or 'no'", None),
        ("regex:yes|ja", "oh yes", None, 1.0, "the pattern matches", "yes"),
        ("regex:yes|ja", "no", None, 0.0, "the pattern does not match", None),
        ("regex:year (\\d{4})", "year 1999", "2000", 0.0, "'1999'; expected '2000'", "1999"),
        ("regex:year (\\d{4})", "year 1999", ["1999", "2000"], 1.0, "'1999'; expected '1999' or '2000'", "1999"),
        ("numeric", "It is 5.", "5", 1.0, "5; expected 5", "5"),
        ("numeric", "It is 6.", "5", 0.0, "6; expected 5", "6"),
        ("numeric", "none", "5", 0.0, "no number; expected 5", None),
        ("numeric", "5", "five", None, "the target has no number", None),
        ("numeric:pick=any", "4, or 5", "5", 1.0, "5; expected 5", "5"),
        ("numeric:pick=any", "4, or 6", "5", 0.0, "no number is 5", "6"),
        ("numeric", "6", [5, 7], 0.0, "6; expected 5 or 7", "6"),
        ("choice", "The answer is (C).", "C", 1.0, "C; expected C", "answer is (C"),
        ("choice", "The answer is (C).", "B", 0.0, "C; expected B", "answer is (C"),
        ("choice", "Who knows", "B", 0.0, "no choice; expected B", None),
        ("choice", "A or B", "B", 0.0, "no choice; expected B", None),
        ("choice", "B", "Paris", None, "the target is not a letter of ABCDEFGHIJ", None),
        ("choice:index=0", "B", 1, 1.0, "B; expected B", "B"),
        ("choice:index=0", "B", 9, 0.0, "B; expected J", "B"),
        ("json", '{"a": 1}', None, 1.0, "JSON", '{"a": 1}'),
        (
            "json",
            "{'a': 1}",
            None,
            0.0,
            "not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
            None,
        ),
        ("json", '{"a": 1}', '{"a": 1}', 1.0, "all fields are equal", '{"a": 1}'),
        ("json", '{"a": 1, "b": 3}', {"a": 1, "b": 2}, 0.5, "differs: b", '{"a": 1, "b": 3}'),
        ("json", "[1]", "[2]", 0.0, "expected [2]", "[1]"),
        ("json", "[1]", "[1]", 1.0, "equal", "[1]"),
        ("json", "1", "no json", None, "the target is not JSON", "1"),
        ("json:fields=c", '{"c": 1}', {"a": 1}, None, "the target lacks c", '{"c": 1}'),
        ("json", "[1]", {"a": 1}, 0.0, "expected an object", "[1]"),
        ("json", '{"a": 1}', {}, 0.0, "the target has no fields", '{"a": 1}'),
        (
            "json:in=text",
            '{"a": 1} or {"a": 2}',
            {"a": 1},
            0.0,
            "not JSON: expected one JSON object, got 2 of them",
            None,
        ),
        (
            "json:in=text",
            'It is {"a": 1',
            {"a": 1},
            0.0,
            "not JSON: the answer is not valid JSON: line 1, column 14: Expecting ',' delimiter",
            None,
        ),
        ("fuzzy", "abcd", "abce", 0.75, "similarity 0.750 with 'abce'", "abcd"),
        ("fuzzy:threshold=0.8", "abcd", "abce", 0.0, "similarity 0.750 with 'abce'; threshold 0.8", "abcd"),
        ("fuzzy:edits=1", "abcd", "abce", 1.0, "edit distance 1 to 'abce'; at most 1", "abcd"),
        ("f1", "The cat sat.", "a cat", 0.6666666666666666, "F1 0.667 with 'a cat'", "cat sat"),
        ("rougeL", "the cat sat", "the cat", 0.8, "ROUGE-L 0.800 with 'the cat'", "the cat sat"),
        ("rouge1", "the cat sat", "the cat", 0.8, "ROUGE-1 0.800 with 'the cat'", "the cat sat"),
        ("bleu", "the cat sat on the mat", "the cat sat on the mat", 1.0, "BLEU 100.0", "the cat sat on the mat"),
        (
            "rougeL:threshold=0.5",
            "the cat",
            "the cat sat",
            1.0,
            "ROUGE-L 0.800 with 'the cat sat'; threshold 0.5",
            "the cat",
        ),
    ],
)
def test_a_score_says_why(
    spec: str, answer: str, target: Any, value: float | None, explanation: str, read: str | None
) -> None:
    """The explanation names what was found and what was expected, word for word, and the part that was read."""
    found = score(spec, answer, target)
    assert (found.explanation, found.read) == (explanation, read)
    assert found.value == pytest.approx(value)


def test_a_score_of_mathematics_says_why() -> None:
    """The explanation names the expression that was read and the target."""
    cases: list[tuple[str, str, float, str, str | None]] = [
        ("\\boxed{\\frac{1}{2}}", "0.5", 1.0, "\\frac{1}{2}; expected 0.5", "\\frac{1}{2}"),
        ("\\boxed{3}", "0.5", 0.0, "3; expected 0.5", "3"),
        ("I do not know", "0.5", 0.0, "no expression found; expected 0.5", None),
        ("even", "even", 1.0, "even: the text of the target", "even"),
        ("odd", "even", 0.0, "odd; expected even", "odd"),
    ]
    with make_scorers(["math"])[0].scorer as scorer:
        for answer, target, value, explanation, read in cases:
            assert scorer.score(Sample(answer, target, {})) == Score(value, explanation, read)


def test_an_answer_that_fits_a_schema(tmp_path: Path) -> None:
    """Without a target, the explanation says that the schema holds, or where it does not."""
    schema = tmp_path / "s.json"
    schema.write_text('{"type": "object", "properties": {"a": {"type": "integer"}}}', encoding="utf-8")
    assert score(f"json:schema={schema}", '{"a": 1}', None).explanation == "fits the schema"
    assert score(f"json:schema={schema}", '{"a": "x"}', None).explanation == (
        "does not fit the schema: $.a: 'x' is not of type 'integer'"
    )


USERS_CODE = """
def half(answer, target):
    return 0.5

def nothing(answer, target):
    return None

def text(answer, target):
    return "good"

def leaves(answer, target):
    raise SystemExit(3)

def fails(answer, target):
    return 1 / 0
"""


@pytest.fixture
def users_code(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(USERS_CODE, encoding="utf-8")
    return path


def test_a_function_gives_no_reason_of_its_own(users_code: Path) -> None:
    """A number from a function is explained by the function; None is unjudged, and leaving the program scores 0."""
    assert score(f"python:{users_code}:half", "x", "y") == Score(0.5, "by the function", "x")
    assert score(f"python:{users_code}:nothing", "x", "y") == Score(None, "the function returned None", "x")
    assert score(f"python:{users_code}:leaves", "x", "y") == Score(0.0, "the function raised SystemExit")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "text",
            "{path}:text: returned 'good', for the answer 'x'; expected a bool, a number from 0 to 1, None or a "
            "batchrun.scoring.Score",
        ),
        ("fails", "{path}:fails: raised ZeroDivisionError: division by zero, for the answer 'x'"),
    ],
)
def test_a_function_that_cannot_score_is_named(users_code: Path, name: str, message: str) -> None:
    """The message names the function, what it did, and the answer."""
    with pytest.raises(InputError) as caught:
        score(f"python:{users_code}:{name}", "x", "y")
    assert str(caught.value) == message.format(path=users_code)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("numeric:decimal=dot", "--scorer numeric: decimal=dot: expected point or comma"),
        ("numeric:pick=first", "--scorer numeric: pick=first: expected final, last or any"),
        ("numeric:abs=x", "--scorer numeric: abs=x: expected a number, at least 0"),
        ("choice:letters=AAB", "--scorer choice: letters=AAB: expected different letters or digits, such as ABCD"),
        ("choice:index=2", "--scorer choice: index=2: expected 0 or 1, the number of the first option"),
        (
            "numeric:round=1",
            "--scorer numeric:round=1: unknown option 'round=1'; known: abs=, rel=, decimal=, pick=",
        ),
        ("regex:", r"--scorer regex: expected a pattern, as in regex:(\d{4})"),
    ],
)
def test_an_option_that_a_scorer_does_not_have(spec: str, message: str) -> None:
    """The message names the option, its value, and what was expected."""
    with pytest.raises(InputError) as caught:
        make_scorers([spec])
    assert str(caught.value) == message
