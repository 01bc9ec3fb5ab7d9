"""Scorers: each follows its documented rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import InputError
from batchrun.scoring import Sample, Score
from batchrun.scoring.scorers.mathematics import MathScorer
from batchrun.scoring.scorers.registry import SCORERS, make_scorers


def score(spec: str, answer: str, target: Any = None, **row: Any) -> Score:
    """Return the score of one row by the scorer of that name."""
    with make_scorers([spec])[0].scorer as scorer:
        return scorer.score(Sample(answer, target, row))


@pytest.mark.parametrize(
    ("spec", "answer", "target", "value"),
    [
        ("exact", " Paris \n", "Paris", 1),
        ("exact", "paris", "Paris", 0),
        ("exact:case=ignore", "paris", "Paris", 1),
        ("exact", "e\u0301", "\u00e9", 1),
        ("exact", "b", ["a", "b"], 1),
        ("includes", "It is paris, of course", "Paris", 1),
        ("includes:case=keep", "It is paris", "Paris", 0),
        ("includes", "It is Rome", "Paris", 0),
        ("exact:punctuation=ignore", "Paris!", "Paris", 1),
        ("exact:punctuation=ignore", "«Paris»。", "Paris", 1),
        ("exact:articles=ignore", "the Louvre", "Louvre", 1),
        ("exact:case=ignore,punctuation=ignore,articles=ignore", "The Louvre.", "louvre", 1),
        ("exact:articles=ignore", "a Louvre.", "Louvre", 0),
        ("includes:punctuation=ignore", "1 - 1", ["+", "−"], None),
        ("includes:punctuation=ignore", "1 - 1", ["+", "2"], 0),
        ("starts-with:punctuation=ignore", "x", "?", None),
        ("contains-any:punctuation=ignore", "x", ["?", "y"], 0),
        ("contains-all:punctuation=ignore", "x", ["?"], None),
        ("exact", '["a"]', '["a"]', 1),
        ("ne", "Paris", "Rome", 1),
        ("ne", " Paris ", "Paris", 0),
        ("ne", "b", ["a", "b"], 0),
        ("ne:case=ignore", "PARIS", "Paris", 0),
        ("starts-with", "Yes, it is", "yes", 1),
        ("starts-with", "Well, yes", "yes", 0),
        ("starts-with:case=keep", "Yes", "yes", 0),
        ("starts-with", "No", ["yes", "no"], 1),
        ("contains-all", "Red and blue", ["red", "blue"], 1),
        ("contains-all", "Red and green", ["red", "blue"], 0),
        ("contains-all", "red, blue", '["red", "blue"]', 1),
        ("contains-all:case=keep", "Red", ["red"], 0),
        ("contains-any", "Red and green", ["red", "blue"], 1),
        ("contains-any", "green", ["red", "blue"], 0),
        ("regex:yes|ja", "oh yes", None, 1),
        ("regex:yes|ja", "no", None, 0),
        (r"regex:year (\d{4})", "year 1999, or year 2000", "2000", 1),
        (r"regex:year (\d{4})", "year 1999, or year 2000", "1999", 0),
        ("numeric", "That makes $1,234.00 in all.", "1234", 1),
        ("numeric", "3/4", "0.75", 1),
        ("numeric", "1000000001", "1000000000", 0),
        ("numeric", "0.333", "1/3", 0),
        ("numeric:abs=0.001", "0.333", "1/3", 1),
        ("numeric:rel=0.01", "102", "100", 0),
        ("numeric:rel=0.02", "102", "100", 1),
        ("numeric", "50 %", "0.5", 1),
        ("numeric", "50 %", "50", 1),
        ("numeric", "0.5", "50%", 1),
        ("numeric", "0.5 %", "50 %", 0),
        ("numeric", "I don't know", "5", 0),
        ("numeric", "5", "five", None),
        ("numeric", "18", 18.0, 1),
        ("numeric:decimal=comma", "1,234", "1.234", 0),
        ("choice", "B", "B", 1),
        ("choice", "(b)", "B", 1),
        ("choice", "The answer is (C).", "C", 1),
        ("choice", r"so \boxed{D}", "D", 1),
        ("choice", r"so \boxed{\text{D}}", "D", 1),
        ("choice", "B) because A is wrong", "B", 1),
        ("choice", "A good question. I would say C", "C", 1),
        ("choice", "It is a matter of taste", "A", 0),
        ("choice", "The answer is a matter of taste", "A", 0),
        ("choice:letters=ABCD", "E", "A", 0),
        ("choice", "B", "B) Paris", 1),
        ("choice", "B", "Paris", None),
        ("json", '{"a": 1}', None, 1),
        ("json", "{'a': 1}", None, 0),
        ("json", "NaN", None, 0),
        ("json", 'Here:\n```json\n{"a": 1.0, "b": [2]}\n```\n', '{"b": [2], "a": 1}', 1),
        ("json", '{"a": 1, "b": 3}', {"a": 1, "b": 2}, 0.5),
        ("json:fields=a", '{"a": 1, "b": 3}', {"a": 1, "b": 2}, 1),
        ("json", '{"a": true}', {"a": 1}, 0),
        ("json", "[1, 2]", "[1, 2]", 1),
        ("json", "[1, 2]", "[2, 1]", 0),
        ("json", "1", "no json", None),
        ("json:fields=c", '{"c": 1}', {"a": 1}, None),
        ("json:in=text", 'The result is {"a": 1}, as asked.', {"a": 1}, 1),
        ("json:in=text", '<think>{"a": 2}</think>\n{"a": 1}', {"a": 1}, 1),
        ("json", 'The result is {"a": 1}, as asked.', {"a": 1}, 0),
        ("json:in=text", '{"a": 1} or {"a": 2}', {"a": 1}, 0),
        ("json:in=text", 'It is {"a": 1', {"a": 1}, 0),
        ("json:in=text", "[1, 2]", "[1, 2]", 0),
        ("fuzzy", "ABC  d", "abc d", 1),
        ("fuzzy:threshold=0.5", "abcd", "abce", 1),
        ("fuzzy:threshold=0.8", "abcd", "abce", 0),
        ("fuzzy", "abcd", "abce", 0.75),
        ("f1", "The cat sat.", "a cat", pytest.approx(2 / 3)),
        ("f1", "the", "a", 1),
        ("f1", "", "cat", 0),
        ("f1", "cat", ["dog", "cat"], 1),
        # rouge-score 0.1.2's own example of its README.
        (
            "rougeL",
            "The quick brown dog jumps on the log.",
            "The quick brown fox jumps over the lazy dog",
            pytest.approx(10 / 17),
        ),
        ("rougeL", "...", "cat", 0),
        ("rougeL:threshold=0.5", "a b c", "a b d", 1),
        ("rougeL:threshold=0.7", "a b c", "a b d", 0),
        ("rouge1", "a b c", "c b d", pytest.approx(2 / 3)),
        ("rouge2", "a b c d", "b c d a", pytest.approx(2 / 3)),
        ("rouge2", "a", "a", 0),
        ("rouge2:threshold=0.6", "a b c d", "b c d a", 1),
        ("rouge3", "a b c d", "a b c", pytest.approx(2 / 3)),
        ("f1:threshold=0.8", "The cat sat.", "a cat", 0),
        ("f1:threshold=0.6", "The cat sat.", "a cat", 1),
        ("bleu:threshold=0.9", "The cat sat on the mat.", "The cat sat on the mat.", 1),
        ("bleu:threshold=0.9", "The cat.", "The cat sat on the mat.", 0),
        ("bleu", "The cat sat on the mat.", "The cat sat on the mat.", 1),
        ("bleu", "dog", "The cat sat on the mat.", 0),
        ("column:old", "", None, 0.25),
    ],
)
def test_rules(spec: str, answer: str, target: Any, value: float | None) -> None:
    """Answer and target give the value of the rule."""
    assert score(spec, answer, target, old="0.25").value == value


def test_what_was_read_is_kept() -> None:
    """A score names the part of the answer that it was read from."""
    assert score("numeric", "First 3, then $1,200 a year", "1200").read == "$1,200"
    assert score("regex:<(.*?)>", "<a> <b>", "b").read == "b"
    assert score("choice", "The answer is (C).", "C").read == "answer is (C"
    assert score("numeric", "none", "1").read is None


@pytest.mark.parametrize(
    ("spec", "answer", "target", "explanation"),
    [
        ("exact", "a", "a", "equal"),
        ("exact", "a", ["b", "c"], "expected 'b' or 'c'"),
        ("ne", "a", "b", "different"),
        ("ne", "a", "a", "equal to 'a'"),
        ("includes", "a", ["b", "c"], "'b' or 'c' does not occur"),
        ("includes", "ab", ["b"], "'b' occurs"),
        ("starts-with", "ab", "b", "does not begin with 'b'"),
        ("starts-with", "ab", "a", "begins with 'a'"),
        ("contains-all", "ab", ["a", "x", "y"], "lacks 'x', 'y'"),
        ("contains-all", "ab", ["a", "b"], "all occur"),
        ("contains-any", "ab", ["a", "x"], "'a' occurs"),
        ("contains-any", "ab", ["x", "y"], "none of 'x', 'y'"),
        ("regex:(a)", "ab", "b", "'a'; expected 'b'"),
        ("regex:a", "ab", None, "the pattern matches"),
        ("regex:x", "ab", None, "the pattern does not match"),
        (
            "regex:(a)",
            "ab",
            {"text": "a"},
            "the target is an object with the fields text; name one, as in --target COLUMN.FIELD",
        ),
        ("fuzzy", "abcd", "abce", "similarity 0.750 with 'abce'"),
        ("fuzzy:edits=1", "Abcd", ["x", "abcd"], "edit distance 1 to 'abcd'; at most 1"),
        ("f1:threshold=0.5", "cat", "cat", "F1 1.000 with 'cat'; threshold 0.5"),
        ("rouge2", "a b", "a b", "ROUGE-2 1.000 with 'a b'"),
        ("rougeL", "a b", ["x", "a b"], "ROUGE-L 1.000 with 'a b'"),
        ("bleu", "cat", "dog", "BLEU 0.0"),
        ("json", "{", None, "not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("json:in=text", "none", None, "not JSON: expected one JSON object, got the text 'none'"),
        ("json", '{"a": 1}', '{"a": 2}', "differs: a"),
        ("json", "{}", "none", "the target is not JSON"),
        ("json", "{}", {}, "the target has no fields"),
        ("json", "[]", {"a": 1}, "expected an object"),
        ("json:fields=a+b", '{"a": 1}', {"a": 1}, "the target lacks b"),
        ("json", "[1]", "[2]", "expected [2]"),
        ("includes", "a", "b", "'b' does not occur"),
        ("starts-with", "a", "b", "does not begin with 'b'"),
        ("contains-all", "a", ["a", "b"], "lacks 'b'"),
        ("contains-any", "a", ["b", "c"], "none of 'b', 'c'"),
    ],
)
def test_explanations(spec: str, answer: str, target: Any, explanation: str) -> None:
    """A score gives its reason in one line."""
    assert score(spec, answer, target).explanation == explanation


def test_a_schema_decides_first(tmp_path: Path) -> None:
    """An answer that does not fit the schema scores 0, and the reason names the place."""
    schema = tmp_path / "s.json"
    schema.write_text('{"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}')
    assert score(f"json:schema={schema}", '{"a": 1}').value == 1
    wrong = score(f"json:schema={schema}", '{"a": "1"}')
    assert (wrong.value, wrong.explanation) == (0.0, "does not fit the schema: $.a: '1' is not of type 'integer'")


def test_a_schema_fetches_nothing(tmp_path: Path) -> None:
    """A reference to another document is an error in one line, and no request is sent."""
    schema = tmp_path / "s.json"
    schema.write_text('{"$ref": "http://127.0.0.1:9/other.json"}')
    with pytest.raises(InputError, match="a reference points outside the schema"):
        score(f"json:schema={schema}", "{}")


def test_mathematics(tmp_path: Path) -> None:
    """Expressions are compared by their meaning; Python code in an answer is text and is never executed."""
    trap = tmp_path / "trap"
    code = f"__import__('pathlib').Path('{trap}').touch()"
    rows = [
        (r"Hence \boxed{\frac{6}{8}}", r"\frac{3}{4}", 1),
        ("so it is 0.75", r"$\frac{3}{4}$", 1),
        ("Hence $x = 2$", "3", 0),
        ("$(x+1)^2$", "x^2+2x+1", 1),
        ("no idea", "3", 0),
        ("3", "", None),
        (code, "3", 0),
        (rf"\boxed{{{code}}}", "3", 0),
        (f"the final answer is {code}", "3", 0),
    ]
    with make_scorers(["math:limit=60"])[0].scorer as scorer:
        found = scorer.score_all([Sample(answer, target, {}) for answer, target, _ in rows])
    assert [each.value for each in found] == [value for *_, value in rows]
    assert not trap.exists()


def test_an_endless_expression_is_wrong_and_harms_no_other() -> None:
    """Simplifying is killed at the time limit, and the answer counts as wrong; the other rows are scored as usual."""
    with MathScorer(limit_s=1, workers=1) as scorer:
        bomb = Sample("the answer is 9**9**9**9**9", "3", {})
        good = Sample(r"\boxed{3}", "3", {})
        found = scorer.score_all([good, bomb, good])
    assert [each.value for each in found] == [1, 0, 1]
    assert "took longer than 1 s" in found[1].explanation


def test_a_function_of_the_users(tmp_path: Path) -> None:
    """A function receives answer, target and optionally the row; bools, numbers, None and scores are accepted."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from batchrun.scoring import Score\n"
        "@dataclass\n"
        "class Part:\n"
        "    value: float\n"
        "def same(answer, target): return answer == target\n"
        "def half(answer, target, row): return float(row['weight'])\n"
        "def nothing(answer, target): return None\n"
        "def whole(answer, target): return Score(1, 'why', 'what')\n"
        "def loud(answer, target): return 7\n"
        "def broken(answer, target): return 1 / 0\n"
        "def odd(answer): return 1\n"
    )
    assert score(f"python:{file}:same", "a", "a").value == 1
    assert score(f"python:{file}:half", "a", "a", weight="0.5").value == 0.5
    assert score(f"python:{file}:nothing", "a", "a").value is None
    assert score(f"python:{file}:whole", "a", "a") == Score(1.0, "why", "what")
    assert make_scorers([f"python:{file}:same"])[0].name == "same"
    for name, message in (
        ("loud", "returned '7', for the answer 'a'; expected a bool, a number from 0 to 1"),
        ("broken", "raised ZeroDivisionError: division by zero, for the answer 'a'"),
        ("odd", r"takes \(answer\); expected \(answer, target\) or \(answer, target, row\)"),
        ("gone", "has no function named 'gone'"),
    ):
        with pytest.raises(InputError, match=message):
            score(f"python:{file}:{name}", "a", "a")


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([], "no scorer is given: add --scorer with one of exact, ne, includes"),
        (["nummeric"], "unknown scorer 'nummeric'; known: exact.*, model-graded; did you mean 'numeric'"),
        (["numeric:eps=1"], "unknown option 'eps=1'; known: abs=, rel=, decimal="),
        (["numeric:abs=x"], "abs=x: expected a number, at least 0"),
        (["numeric:decimal=."], r"decimal=\.: expected point or comma"),
        (["numeric", "numeric:abs=1"], "two scorers named 'numeric'; name one, as in other=numeric:abs=1"),
        (["regex:("], "is not a regular expression"),
        (["regex"], "expected a pattern"),
        (["f1:x=1"], "unknown option 'x=1'; known: threshold="),
        (["fuzzy:threshold=2"], "a number from 0 to 1"),
        (["fuzzy:edits=-1"], "edits=-1: expected a whole number of characters, at least 0"),
        (["fuzzy:edits=1,threshold=0.5"], "edits and threshold exclude each other"),
        (["choice:letters=A-D"], "expected different letters or digits, such as ABCD"),
        (["choice:letters=ABA"], "expected different letters or digits"),
        (["choice:index=2"], "expected 0 or 1, the number of the first option"),
        (["exact:case=no"], "ignore or keep"),
        (["exact:articles=no"], "articles=no: expected ignore or keep"),
        (["rougeL:threshold=1.5"], "threshold=1.5: expected a number from 0 to 1"),
        (["json:in=prose"], r"in=prose: expected answer \(all of it\) or text"),
        (["numeric:pick=first"], "pick=first: expected final, last or any"),
        (["math:limit=0"], "seconds above 0"),
        (["json:in=x"], r"in=x: expected answer \(all of it\) or text \(one object in it\)"),
        (["cosine"], "expected an embedding model, as in cosine:model=text-embedding-3-small"),
        (["cosine:model=m,url=x"], "url=x: expected the base URL of a server"),
        (["python:gone.py:f"], r"gone\.py: no such file"),
        (["python:f"], r"expected python:FILE\.py:function"),
        (["column:"], "the name of a column"),
        (["json:schema=gone.json"], r"gone\.json: cannot be read"),
    ],
)
def test_a_wrong_name_gets_one_line(specs: list[str], message: str) -> None:
    """A wrong scorer is refused, and the message lists the possible ones."""
    with pytest.raises(InputError, match=message) as caught:
        make_scorers(specs)
    assert "\n" not in str(caught.value)


def test_a_cell_without_a_score_is_named() -> None:
    """The message has the row, what the cell may be and what it is."""
    [column] = make_scorers(["column:old"])
    with pytest.raises(InputError, match=r"column:old: row 3 \(from 0\): expected a number .* true .* got 'pass'"):
        column.scorer.score(Sample("", None, {"old": "pass"}, 3))


def test_every_scorer_is_documented() -> None:
    """docs/reference/scorers.md has a line for each scorer."""
    page = (Path(__file__).parents[4] / "docs" / "reference" / "scorers.md").read_text(encoding="utf-8")
    table = page.partition("\n## ")[0]
    assert [kind for kind in SCORERS if f"`{kind}`" not in table and f"`{kind}:" not in table] == []
