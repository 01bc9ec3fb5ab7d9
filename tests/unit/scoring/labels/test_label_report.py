"""Scores against hand labels: where labels come from, what they mean, and what is printed."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from batchrun.batch.row_notes import RowNote, RowNotes, answer_hash
from batchrun.errors import InputError
from batchrun.scoring.evaluate import Bars, ScoringSpec, score_table
from batchrun.scoring.grading.graded_scorer import GradedScorer, GraderVerdicts
from batchrun.scoring.grading.grader import Grader
from batchrun.scoring.grading.grader_report import GraderReport
from batchrun.scoring.grading.rubric import Rubric
from batchrun.scoring.grading.verdicts import Reader
from batchrun.scoring.labels.label_report import LabelReport, label_lines
from batchrun.scoring.score_columns import ScoreColumns, found_columns
from batchrun.scoring.scorers.texts import ExactScorer, TextForm
from batchrun.tables import ReadOptions, open_source

ROWS = [
    ("a", "4", "right"),
    ("b", "4", "wrong"),
    ("c", "5", "Wrong"),
    ("d", "5", "0"),
    ("e", "4", ""),
    ("f", "4", "yes"),
]


def written(folder: Path, rows: list[tuple[str, str, str]] = ROWS) -> str:
    path = folder / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "response", "hand", "truth"), *((*row, "4") for row in rows)])
    return str(path)


def reported(name: str, labels: str = "hand", key: str | None = "id", scorer: str = "exact") -> LabelReport:
    spec = ScoringSpec([scorer], ScoreColumns(target="truth", key=key, labels=labels))
    [report] = score_table(name, spec, Bars()).labels
    return report


def test_labels_are_a_column(tmp_path: Path) -> None:
    """Words, numbers and empty cells of a column are compared with the scores, and the lines have every count."""
    report = reported(written(tmp_path))
    assert label_lines([report]) == [
        "exact against hand: 80.0 % (37.6 % to 96.4 %) equal, κ 0.62 (−0.45 to 0.96), 5 rows",
        "  label  scored wrong  scored right",
        "  wrong             2             1",
        "  right             0             2",
        "  by hand: 40.0 % (11.8 % to 76.9 %) of 5 labelled rows",
        "  not corrected for the scorer's errors: that takes 10 labelled rows or more",
    ]
    facts = report.facts()
    assert (facts["labelled"], facts["corrected"], facts["kappa_weights"]) == (5, None, "none")
    assert {"label": 0.0, "score": 1.0, "rows": 1} in facts["confusion"]


def test_enough_labels_correct_the_mean(tmp_path: Path) -> None:
    """With ten labels or more, the mean of all rows is corrected, and named so."""
    rows = [(str(n), "4" if n % 2 else "5", ("right" if n % 2 else "wrong") if n < 20 else "") for n in range(60)]
    report = reported(written(tmp_path, rows))
    assert report.corrected is not None
    assert report.corrected.mean == pytest.approx(0.5)
    last = label_lines([report])[-1]
    assert last.startswith("  corrected for the scorer's errors: 50.0 % (")
    assert last.endswith(" of 60 rows, if the labelled rows were drawn at random")


@pytest.mark.parametrize("key", ["id", None])
def test_ratings_of_the_page_are_labels(tmp_path: Path, key: str | None) -> None:
    """`--labels rating` takes the ratings next to the table; those of an earlier answer are counted and left out."""
    name = written(tmp_path)
    keys = [row[0] for row in ROWS] if key else [str(n) for n in range(len(ROWS))]
    rated = [(0, "right", "4"), (1, "wrong", "4"), (2, "right", "an earlier answer"), (3, "wrong", "5")]
    notes = [RowNote(place, keys[place], rating, "", answer_hash(answer)) for place, rating, answer in rated]  # type: ignore[arg-type]
    RowNotes(notes).write(tmp_path / "a.csv.notes.csv")
    report = reported(name, "rating", key)
    assert (report.labelled, report.outdated) == (3, 1)
    assert report.agreement is not None
    assert report.agreement.equal.mean == pytest.approx(2 / 3)
    assert label_lines([report])[0] == "exact against rating: 1 row rated with an earlier answer, not used"


def test_labelled_rows_without_a_score_are_counted(tmp_path: Path) -> None:
    """A labelled row that the scorer cannot judge is named, not dropped."""
    report = reported(written(tmp_path), scorer="numeric")
    assert report.labelled == 5
    rows = [("a", "no number", "right"), ("b", "4", "right")]
    text = label_lines([reported(written(tmp_path, rows), scorer="python:tests/support/half_judge.py:judge")])
    assert "  1 labelled row without a score, not counted" in text


@pytest.mark.parametrize(
    ("rows", "labels", "expected"),
    [
        (
            [("a", "4", "maybe")],
            "hand",
            "--labels hand: row 0 (from 0) has 'maybe', which is not a value of exact; expected",
        ),
        ([("a", "4", "1.5")], "hand", "has '1.5', which is not a value of exact; expected right or wrong (also true,"),
        (ROWS, "hands", "--labels hands: "),
        (ROWS, "rating", "a.csv.notes.csv; rate answers with batchrun view "),
    ],
)
def test_a_wrong_label_gets_one_line(
    tmp_path: Path, rows: list[tuple[str, str, str]], labels: str, expected: str
) -> None:
    """The message names the option, the row and the label, or how to make the missing file."""
    with pytest.raises(InputError) as caught:
        reported(written(tmp_path, rows), labels)
    assert expected in str(caught.value)


def graded(reader: Reader) -> GradedScorer:
    grader = replace(Grader.of_model("m", {}, "--grader-model m"), reader=reader)
    report = GraderReport("m", "m", 0, 0, 0, 0, 0, 0, 0, None, 0, None)
    rubric = Rubric("x", (), where="r", question=None, target=None, grade_line="", grades=[])
    return GradedScorer([GraderVerdicts(grader, rubric, {}, report)], "mean")


@pytest.mark.parametrize(
    ("reader", "label", "value"),
    [
        (Reader(), "C", 1.0),
        (Reader({"A": 0.4, "I": 1.0}), "i", 1.0),
        (Reader({"A": 0.4, "I": 1.0}), "wrong", 0.0),
        (Reader(scale=(1, 5)), "2", 0.25),
        (Reader(scale=(1, 5)), "right", 1.0),
        (Reader(scale=(1, 5)), "0.5", None),
        (Reader(scale=(1, 5)), "maybe", None),
    ],
)
def test_labels_may_be_grades(reader: Reader, label: str, value: float | None) -> None:
    """For a grader, a label is a grade of its rubric, a number on its scale, or a word for right or wrong."""
    assert graded(reader).value_of_label(label) == value


def test_labels_of_other_scorers() -> None:
    """Other scorers take words and numbers from 0 to 1."""
    scorer = ExactScorer(TextForm())
    assert [scorer.value_of_label(text) for text in (" Yes ", "FAIL", "0.5", "nan", "2", "")] == [
        1,
        0,
        0.5,
        None,
        None,
        None,
    ]


def test_a_table_in_memory_has_no_ratings() -> None:
    """`rating` names a file next to a table; a table that is no file is refused, whatever files are around."""
    with pytest.raises(InputError, match="no file with this name exists; ratings are kept next to the file"):
        found_columns(open_source(pd.DataFrame({"response": ["a"]}), ReadOptions()), ScoreColumns(labels="rating"))
