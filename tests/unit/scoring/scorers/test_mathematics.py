"""Mathematical answers: what is read of answer and target, and what math-verify makes of it."""

from __future__ import annotations

import pytest

from batchrun.scoring import Sample
from batchrun.scoring.scorers.math_reading import final_part, is_prose, is_text, normal_text
from batchrun.scoring.scorers.mathematics import MathScorer

RIGHT = [
    (r"\frac{8}{3}", r"\frac{8}{3}"), (r"\frac{8}{3}", r"\dfrac{8}{3}"), ("x + y = 0", "$x + y = 0$"), ("(1,2)", "(1,2)"),
    ("y = 2x + 3", r"\boxed{y=2x+3}"), (r"5 \text{ cm}", r"\boxed{5}"), (r"-\frac{1}{2}", "The answer is -1/2."), ("x-3", "x-3"),
    (r"\text{Evelyn}", "Evelyn"), (r"90^\circ", "90"), ("x^3 + 2", "$x^3+2$"), (r"10\%", r"\boxed{10}"), ("p - q", r"Hence $\boxed{p - q}.$"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"\[\boxed{(3, \pi/2)}\]"), (r"1 \pm \sqrt{19}", r"x = \boxed{1 \pm \sqrt{19}}"), ("x^2+2x+1", "$(x+1)^2$"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"So \boxed{\begin{pmatrix} 1 \\ 2 \end{pmatrix}}"), ("6 - 5i", r"$\boxed{6-5i}$"), ("even", "**Answer:** Even"),
    ("x-3", "The answer is x - 3. We subtract 3 from 5."), ("2k+2", "#### 2k + 2"), ("3, 5, 7", r"\boxed{7, 5, 3}"), ("#### 18", "so it is 18"),
    ("The total is 18 eggs for her", r"\boxed{18}"), (r"$\frac{3}{4}$", "so it is 0.75"), ("2, 3", "The answer is $2$ or $3$."), ("2, 3", "Answer: $x=2$ and $x=3$"), ("-50", "<think>maybe 50</think>\n-50"),
]  # fmt: skip
WRONG = [
    ("x=5", "$y=5$"), ("(1,2)", r"\boxed{(5,2)}"), ("1,2,3", r"\boxed{7,8,3}"), ("3x^2", r"\boxed{2}"), (r"2\sqrt{3}", r"\boxed{3}"), (r"\pi/2", r"\boxed{2}"),
    (r"(-\infty,2]", r"\boxed{2}"), ("2 and 3", r"\boxed{3}"), ("2, 4", r"\boxed{4}"), ("x < 5", r"\boxed{5}"), ("6 - 5i", r"\boxed{5}"), ("even", "odd"),
    (r"\text{Evelyn}", "Carla"), ("x-3", "x - 4"), ("(3,4]", "(3,4)"),
]  # fmt: skip


def test_equal_expressions_score_1_and_others_0() -> None:
    """Targets are read whole, equal texts are equal, and a part of a target is not enough."""
    rows = [*((*row, 1.0) for row in RIGHT), *((*row, 0.0) for row in WRONG)]
    with MathScorer(limit_s=60, workers=2) as scorer:
        found = scorer.score_all([Sample(answer, target, {}) for target, answer, _ in rows])
        several, other = scorer.score_all([Sample(r"\boxed{2}", ["1", "2"], {}), Sample(r"\boxed{2}", "4", {})])
    assert [row for row, score in zip(rows, found, strict=True) if score.value != row[2]] == []
    assert (several.value, other.value, other.explanation, other.read) == (1.0, 0.0, "2; expected 4", "2")


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (r"So \boxed{1}, and \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"open \boxed{1", r"open \boxed{1"),
        ("**Answer:** $x$ or so", "x"),
        ("The answer is 3.5. Then 4.", "3.5"),
        ("#### 18", "18"),
        ("so $a$ and $b$", "b"),
        (r"\[x^2\]", "x^2"),
        ("2x + 1", "2x + 1"),
        ("they have eggs", None),
        ("two\nlines", None),
    ],
)
def test_the_final_part(answer: str, part: str | None) -> None:
    """The last box counts first, then the line after an anchor, then the last formula, then a line without prose."""
    assert final_part(answer) == part


def test_kinds_of_text() -> None:
    """Prose has two words, a text has letters and no mathematics, and spacing has no meaning."""
    assert [is_prose(text) for text in ("18 eggs in all there", r"\sin x and \cos x", "Evelyn")] == [True, False, False]
    assert [is_text(text) for text in ("even", r"\text{Evelyn}", "p - q", "xy^2", "x")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert normal_text(r"$\left(1,\; 2\right)$.") == normal_text("(1, 2)") == "(1,2)"


def test_a_hostile_megabyte_is_given_up() -> None:
    """An answer that takes too long to parse scores 0 with the reason, and the next one is judged as usual."""
    with MathScorer(limit_s=2, workers=1) as scorer:
        hostile, good = scorer.score_all([Sample("$1" * 500_000, "3", {}), Sample("3", "3", {})])
    assert (hostile.value, good.value) == (0.0, 1.0)
