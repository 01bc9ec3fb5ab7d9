"""Multiple choice: the letter that an answer states, in the forms that models use."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest

from batchrun.scoring import Sample, Score
from batchrun.scoring.scorers.choice import ChoiceScorer
from batchrun.scoring.scorers.stated_choice import stated_choice
from batchrun.thoughts import without_reasoning

FORMS = Path(__file__).parents[3] / "data" / "scoring" / "choice_forms.csv"
"""Answers with the letters X and Y for any two, and whether X is chosen."""

PAIRS = ["AB", "BD", "CA", "DI", "IA", "EC"]


def score(answer: str, target: Any, **options: Any) -> Score:
    return ChoiceScorer(**options).score(Sample(answer, target, {}))


def with_letters(form: str, chosen: str, other: str) -> str:
    """Return a form with letters in place of X and Y, also in lower case, full width and in circles."""
    places = {"X": chosen, "Y": other, "x": chosen.lower()}
    form = re.sub(r"(?<![A-Za-z])[XYx](?![A-Za-z])", lambda match: places[match[0]], form)
    return form.replace("Ｘ", chr(ord(chosen) + 0xFEE0)).replace("Ⓧ", chr(ord(chosen) - 65 + 0x24B6))


@pytest.mark.parametrize("pair", PAIRS)
def test_every_form_is_read_alike_with_every_letter(pair: str) -> None:
    """A form states its letter whichever letter that is, A and I too; answers without a choice state none."""
    with FORMS.open(encoding="utf-8", newline="") as file:
        forms = list(csv.DictReader(file))
    assert len(forms) > 300
    wrong = []
    for form in forms:
        answer, expected = with_letters(form["answer"], *pair), pair[0] if form["choice"] else None
        found = stated_choice(without_reasoning(answer), "ABCDEFGHIJ")
        if (found and found.letter) != expected:
            wrong.append((answer, expected))
    assert wrong == []


MORE = [
    "That'd be X.", "X it is.", "X?", "X is the only one that fits.", "Only X is consistent with the facts.", "Only option X works.",
    "X best describes the process.", "I think the answer is X, but Y is also plausible.", "Going with X here.", "Y is not correct; X is.",
    "<answer> x </answer>", "<final>X</final>", "<answer>\nX\n</answer>", "I choose X: group Y", "I'd pick X) group Y", "I select option X - group Y.",
    "Not Y but X.", "Nicht Y, sondern X.", "Yanıt X'dir.", "ตอบ X", "Точният отговор е X.", "Правилният отговор е X.", "Õige vastus on X.",
    "Pareizā atbilde ir X.", "La resposta correcta és X.", "Erantzun zuzena X da.", "Ճիշտ պատասխանն է X", "სწორი პასუხია X",
]  # fmt: skip
"""Answers that choose X."""
NONE = [
    "Only X and Y are left.",
    "Is only X right?",
    "Only X is wrong.",
    "Not X.",
    "X is not the only one.",
    "Is it X?",
]
"""Answers that choose nothing."""


@pytest.mark.parametrize("pair", PAIRS)
def test_further_forms(pair: str) -> None:
    """Statements by `only`, `best`, `it is` and by contrast are read, in further languages too."""
    for form in (*MORE, *NONE):
        found = stated_choice(with_letters(form, *pair), "ABCDEFGHIJ")
        assert (found and found.letter) == (pair[0] if form in MORE else None), form


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("Answer: D (both A and B are correct)", "D"),
        ("The answer is E. Both A and C are true.", "E"),
        ("Both B and C are right, hence D.", "D"),
        ("Answer: A. Actually, both A and B are correct.", None),
        ("Both B and C are right, so C.", None),
    ],
)
def test_an_option_may_name_others(answer: str, letter: str | None) -> None:
    """That several are right may be the text of the option that is chosen, if it is not one of them."""
    found = stated_choice(answer, "ABCDE")
    assert (found and found.letter) == letter


@pytest.mark.parametrize(
    ("answer", "explanation", "read"),
    [
        ("The answer is (C).", "C; expected B", "answer is (C"),
        ("Answer: B", "B; expected B", "Answer: B"),
        ("Answer: A or B", "more than one choice; expected B", "Answer: A or B"),
        ("I don't know.", "no choice; expected B", None),
        ("答案：Ｂ", "B; expected B", "答案：Ｂ"),
    ],
)
def test_a_score_says_what_was_read(answer: str, explanation: str, read: str | None) -> None:
    """The explanation has the letter and the expected one, and the text that states it is kept as it was written."""
    found = score(answer, "B")
    assert (found.explanation, found.read) == (explanation, read)


@pytest.mark.parametrize(
    ("target", "options", "value", "explanation"),
    [
        ("B) Paris", {}, 1, "B; expected B"),
        (["A", "b"], {}, 1, "B; expected A or B"),
        (1, {"index": 0}, 1, "B; expected B"),
        (2.0, {"index": 1}, 1, "B; expected B"),
        ("0", {"index": 0}, 0, "B; expected A"),
        ("Paris", {}, None, "the target is not a letter of ABCDEFGHIJ"),
        (
            1,
            {},
            None,
            "the target is not a letter of ABCDEFGHIJ; targets that are positions need choice:index=0 or index=1",
        ),
        (4, {"index": 0, "letters": "ABCD"}, None, "the target is not a whole number from 0 to 3"),
        ("B", {"index": 0}, None, "the target is not a whole number from 0 to 9"),
        ("B", {"letters": "AC"}, None, "the target is not a letter of AC"),
    ],
)
def test_targets(target: Any, options: dict[str, Any], value: float | None, explanation: str) -> None:
    """A target is a letter, one of several, or a position; any other target cannot be judged, and the reason says so."""
    found = score("Answer: B", target, **options)
    assert (found.value, found.explanation) == (value, explanation)


def test_options_may_be_digits_or_other_letters() -> None:
    """`letters` are whatever the question's options are called."""
    assert score("정답은 ③번입니다.", "3", letters="12345").value == 1
    assert score("The answer is 2 because 3.5 is too much.", "2", letters="1234").value == 1
    assert score("Ответ: Б", "Б", letters="АБВГ").value == 1
    assert score("答案：乙", "乙", letters="甲乙丙丁").value == 1


def test_capitals_that_look_alike_are_the_same() -> None:
    """A Russian keyboard's А, В, С are Latin letters, unless they are words."""
    assert score("Ответ: С", "C").value == 1
    assert stated_choice("В этом случае ответа нет", "ABCD") is None


@pytest.mark.parametrize(
    ("hostile", "stated"),
    [
        ("A " * 500_000, None),
        ("A) x\nB) y\n" * 90_000, None),
        ("answer" + "(" * 1_000_000 + "A", "A"),
        ("A, B, " * 170_000, None),
    ],
    ids=lambda value: str(value)[:6],
)
def test_a_hostile_answer_is_read_to_its_end(hostile: str, stated: str | None) -> None:
    """Half a second is enough for a megabyte; a time that grew with the square of the length would end in the timeout."""
    found = stated_choice(hostile, "ABCD")
    assert (found and found.letter) == stated
