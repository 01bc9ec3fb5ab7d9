"""Verdicts: read from a grader's reply, and combined."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.scoring.grading.ready_rubrics import PARTIAL
from batchrun.scoring.grading.verdicts import Reader, Reading, combined
from batchrun.scoring.score_options import Vote


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("GRADE: C", 1),
        ("It says the same.\nGRADE: C", 1),
        ("reasons\n\n**GRADE: I**\n\n", 0),
        ("reasons\n**GRADE:** C", 1),
        ("grade: c.", 1),
        ("> GRADE : `C`", 1),
        ("```\nGRADE: I\n```", 0),
        ("GRADE: C (correct)", 1),
        ("**GRADE: I** (not C)", 0),
        ('"GRADE: C"', 1),
        ("GRADE: P", None),
        ("GRADE: X", None),
        ("GRADE: C or I", None),
        ("GRADE: CI", None),
        ("GRADE:", None),
        ("GRADE: C\nOn second thought, I am not sure.", None),
        ("I would say GRADE: C", None),
        ('It claims "GRADE: C", which is false', None),
        ("no verdict", None),
        ("", None),
        (" \n\n", None),
    ],
)
def test_only_the_last_line_is_a_verdict(text: str, value: float | None) -> None:
    """A last line `GRADE: X` is read, with or without markup; anything else is not a verdict."""
    assert Reader().read(text).value == value


@given(st.text(), st.sampled_from("CI"))
def test_nothing_before_the_last_line_decides(quoted: str, grade: str) -> None:
    """Only the grader's own last line counts, whatever it quotes before."""
    found = Reader().read(f"{quoted}\nGRADE: C\n{quoted}\nGRADE: {grade}")
    assert (found.value, found.read) == (1.0 if grade == "C" else 0.0, f"GRADE: {grade}")


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    """No text raises an error, and values are from 0 to 1."""
    for reader in (Reader(), Reader(scale=(1, 10)), Reader(pattern=re.compile("(.)"))):
        value = reader.read(text).value
        assert value is None or 0 <= value <= 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("GRADE: 1", 0),
        ("GRADE: 10", 1),
        ("GRADE: 5.5", 0.5),
        ("GRADE: 7/10", pytest.approx(6 / 9)),
        ("GRADE: 7 / 10.", pytest.approx(6 / 9)),
        ("GRADE: 7/5", None),
        ("GRADE: 0", None),
        ("GRADE: 11", None),
        ("GRADE: -3", None),
        ("GRADE: seven", None),
        ("GRADE: 7 8", None),
    ],
)
def test_grades_on_a_scale(text: str, value: float | None) -> None:
    """The lowest grade is 0, the highest 1; a number outside the scale is not a grade."""
    assert Reader(scale=(1, 10)).read(text).value == value


def test_a_scale_may_be_negative() -> None:
    """A minus sign is read in both its forms."""
    reader = Reader(scale=(-2, 2))
    assert (reader.read("GRADE: -2").value, reader.read("GRADE: −1").value) == (0, 0.25)


def test_a_pattern_reads_its_last_match() -> None:
    """The last match in the whole text is read, whatever follows it; without a match there is no verdict."""
    reader = Reader(scale=(0, 4), pattern=re.compile(r'"score":\s*(\d+)'))
    text = '{"score": 0}\n{"score": 3, "why": "good"}\nBye'
    assert reader.read(text) == Reading(0.75, '"score": 3', text)
    assert reader.read("none") == Reading(None, None, "none")


def test_custom_grades() -> None:
    """Upper and lower case are equal, and grades may be words."""
    reader = Reader(choices={"Very good": 1.0, "fair": 0.5})
    assert [reader.read(f"GRADE: {grade}").value for grade in ("VERY GOOD", "fair", "good")] == [1, 0.5, None]
    assert Reader(choices=PARTIAL).read("GRADE: P").value == 0.5


def test_the_grade_line_names_the_grades() -> None:
    """The instruction to the grader lists the grades that are read."""
    assert "one of C, I" in Reader().grade_line()
    assert "a number from 1 to 10" in Reader(scale=(1, 10)).grade_line()


@pytest.mark.parametrize(
    ("values", "vote", "value"),
    [
        ([1.0], "majority", 1),
        ([1.0, 0.0, 1.0], "majority", 1),
        ([1.0, 0.0], "majority", None),
        ([1.0, 0.5, 0.0], "majority", None),
        ([1.0, 0.5, 0.0, 0.5], "majority", 0.5),
        ([1.0, 1.0, 0.0, 0.0, 0.5], "majority", None),
        ([], "majority", None),
        ([1.0, 0.0], "mean", 0.5),
        ([1.0, 0.0, 1.0], "mean", pytest.approx(2 / 3)),
        ([], "mean", None),
    ],
)
def test_votes_are_combined(values: list[float], vote: Vote, value: float | None) -> None:
    """The most frequent value wins, or the mean is taken; a tie is not a verdict."""
    assert combined(values, vote) == value


def test_a_pattern_without_end_reads_nothing() -> None:
    """A pattern that backtracks endlessly on a reply finds no verdict, within a bounded time."""
    reader = Reader(scale=(0, 4), pattern=re.compile(r"((?:a+)+)$"))
    assert reader.read("a" * 60 + "!").value is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("It is right.\nBoth say 4.\n\n**GRADE: C**\n", "It is right.\nBoth say 4."),
        ("GRADE: C", ""),
        ("I had rather not say.", "I had rather not say."),
        ("It is right.\nGRADE: unknown", "It is right."),
    ],
)
def test_the_reason_is_the_reply_without_the_grade(text: str, reason: str) -> None:
    """The reason has everything that the grader wrote before its grade."""
    assert Reader().read(text).reason == reason
