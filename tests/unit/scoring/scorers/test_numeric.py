"""The number of an answer that counts."""

from __future__ import annotations

from typing import Any

import pytest

from batchrun.scoring import Sample, Score
from batchrun.scoring.scorers.registry import make_scorers


def score(spec: str, answer: str, target: Any) -> Score:
    with make_scorers([spec])[0].scorer as scorer:
        return scorer.score(Sample(answer, target, {}))


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ("The answer is 18. She sold 7 of 25.", "18"),
        ("The answer is **18** eggs, from 3 hens.", "18"),
        ("**Answer:** $18 (of 40)", "$18"),
        ("Answer:\n\n18\n\nThis took 3 steps.", "18"),
        ("The answer is 5 + 3 = 8, as 5 came first.", "8"),
        ("The answer is x = 4. Check: 2 * 4 = 8", "4"),
        (r"So \boxed{42} of 100", "42"),
        (r"\boxed{x = 3} or 4", "3"),
        ("#### 18\nStep 1 of 2", "18"),
        ("The final answer is approximately 3.5, not 4", "3.5"),
        ("The answer is -2, since 4 - 6 = -2", "-2"),
        ("答案是18。共3步", "18"),
        ("The answer is in step 3: they have 9", "9"),
        ("There are 3 hens and 18 eggs", "18"),
        ("20 is 25% of 80.", "80"),
        ("<think>The answer is 5</think>7", "7"),
        ("It covers 3 m^2", "3"),
        ("It covers 3 m^{2}.", "3"),
        ("about 10^6", "10^6"),
        ("It is 42.[1]", "42"),
        ("It is 42 [1, 2].", "42"),
        ("It is 42【4†source】", "42"),
        ("[42]", "42"),
        ("Die Antwort ist 18. Das sind 3 Schritte.", "18"),
        ("La respuesta es 18. Fueron 3 pasos.", "18"),
        ("Ответ: 18. Всего 3 шага.", "18"),
        ("答案：１８（共３步）", "18"),
        ("الجواب هو ١٨ و ٣", "18"),
    ],
)
def test_the_number_that_is_read(answer: str, read: str) -> None:
    """The box, then the number after `the answer is`, then the last number; units and citations are not numbers."""
    assert score("numeric", answer, "1").read == read


@pytest.mark.parametrize(
    ("answer", "target"),
    [("10^6", "1000000"), ("2^10", "1024"), ("10⁶", "1000000"), ("10**-2", "0.01"), ("70k", "70,000"), ("$70K", "70000"), ("minus 5", "-5"), ("It is negative 5", "-5"),
     ("10 minus 5", "5"), (r"\frac12", "0.5"), (r"\frac1{4}", "0.25"), (r"\dfrac34", "3/4"), ("300K", "300"), ("$5B", "5000000000"), ("5bn", "5000000000"), ("£1.2m", "1200000"), ("5m", "5"), (r"3\frac{1}{2}", "3.5"),
     ("1_000", "1000"), ("₹1,00,000", "100000"), ("１８％", "18"), ("١٨", "18"), ("5", ["4", "5"]), ("5", [4, 5]), ("4", "[4, 5]")],
)  # fmt: skip
def test_ways_to_write_a_number(answer: str, target: Any) -> None:
    """Powers, thousands, signs in words and short fractions are read, and any member of a list is right."""
    assert score("numeric", answer, target).value == 1


def test_which_number_counts_can_be_chosen() -> None:
    """`last` ignores what is stated; `any` is lenient and says what it found, or that no number is right."""
    text = "The answer is 18. She sold 7."
    assert [score(f"numeric:pick={pick}", text, "7").value for pick in ("final", "last", "any")] == [0, 1, 1]
    assert score("numeric:pick=any", "20 is 25% of 80.", "25") == Score(1.0, "25%; expected 25", "25%")
    assert score("numeric:pick=any", text, "8") == Score(0.0, "no number is 8", "7")
    assert score("numeric:pick=any", "none", "8") == Score(0.0, "no number; expected 8")


def test_explanations() -> None:
    """A score says what was read and expected."""
    assert score("numeric", "So 3", ["4", "5"]) == Score(0.0, "3; expected 4 or 5", "3")
    assert score("numeric", "none", "4") == Score(0.0, "no number; expected 4")
    assert score("numeric", "4", "none") == Score(None, "the target has no number")


@pytest.mark.parametrize(
    ("hostile", "read"),
    [
        ("1" * 1_000_000, None),
        ("answer is " * 100_000, None),
        ("[1]" * 330_000, "1"),
        ("1," * 200_000, "1"),
        ("answer is " + "$ " * 500_000, None),
    ],
    ids=lambda value: str(value)[:10],
)
@pytest.mark.parametrize("pick", ["final", "any"])
def test_a_hostile_answer_is_read_to_its_end(hostile: str, read: str | None, pick: str) -> None:
    """A second is enough for a megabyte; a time that grew with the square of the length would end in the timeout."""
    found = score(f"numeric:pick={pick}", hostile, "2")
    assert (found.value, found.read) == (0.0, read)
