"""The comparison of a page: of two tables, or of the parts of one."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import InputError
from batchrun.reporting.report import Report, check_scoring, make_report
from batchrun.scoring.evaluate import ScoringSpec
from batchrun.scoring.score_columns import ScoreColumns
from tests.support.rows import noon


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({"truth": "1", "status": "completed", **row} for row in rows)


def rows_of(column: str, answers: dict[str, str], epochs: int = 1) -> list[dict[str, Any]]:
    """Return a row for each value, question and epoch; an answer is a digit for each question."""
    return [
        {"id": f"q{place}", column: value, "epoch": epoch, "truth": "1", "response": answer, "status": "completed"}
        for value, digits in answers.items()
        for place, answer in enumerate(digits)
        for epoch in range(epochs)
    ]


def made(folder: Path, rows: list[dict[str, Any]], *, baseline: str | None = None, **columns: Any) -> Report:
    write_rows(folder / "a.csv", rows)
    spec = ScoringSpec(("numeric",), ScoreColumns(target="truth", key="id", **columns))
    return make_report(folder / "a.csv", spec, baseline=baseline, clock=noon)


def test_models_of_one_table_are_compared(tmp_path: Path) -> None:
    """A table with an axis of its batch is compared by it, without an option, and flipped rows are found in both
    parts."""
    report = made(tmp_path, rows_of("axis_model", {"a": "1100", "b": "1010"}))
    comparison = report.facts["comparison"]
    assert (comparison["split"], [each["table"] for each in comparison["tables"]]) == ("axis_model", ["a", "b"])
    (pairing,) = comparison["pairings"]
    assert (pairing["better_first"], pairing["better_rows"]) == ([2], [6])
    assert (pairing["worse_first"], pairing["worse_rows"]) == ([1], [5])
    assert {place: row.before["response"] for place, row in enumerate(report.rows) if row.before is not None} == {
        5: "1", 6: "0",
    }  # fmt: skip
    assert report.rows[6].before == {"response": "0", "scores": {"numeric": 0.0}}


def test_the_column_of_the_parts_may_group_the_scores(tmp_path: Path) -> None:
    """Scores by model are shown next to the comparison of the models."""
    report = made(tmp_path, rows_of("axis_model", {"a": "1100", "b": "1010"}), by=("model", "epoch"))
    assert list(report.facts["scores"][0]["groups"]) == ["axis_model", "epoch"]
    assert list(report.facts["comparison"]["pairings"][0]["groups"]) == ["epoch"]


@pytest.mark.parametrize("column", ["axis_model", "variant"])
def test_models_are_not_epochs(tmp_path: Path, column: str) -> None:
    """The figures of the whole table count the epochs of each part, with or without an axis."""
    report = made(tmp_path, rows_of(column, {"a": "10", "b": "11"}, epochs=2), split=column.removeprefix("axis_"))
    epochs = report.facts["scores"][0]["epochs"]
    assert (epochs["keys"], epochs["most"]) == (4, 2)
    assert report.facts["comparison"]["pairings"][0]["pairs"] == 2


def test_every_pair_of_parts_is_named(tmp_path: Path) -> None:
    """With three parts the first is compared with each of the others."""
    report = made(tmp_path, rows_of("axis_model", {"a": "110", "b": "101", "": "000"}))
    pairs = {(each["first"], each["second"]) for each in report.facts["comparison"]["pairings"]}
    assert {("a", "b"), ("a", "(empty)")} <= pairs
    flipped = [place for place, row in enumerate(report.rows) if row.before is not None]
    assert flipped == [4, 5, 6, 7]


def test_one_model_is_not_compared(tmp_path: Path) -> None:
    """An axis with one value has no comparison; asking for it is an error that names the column."""
    rows = rows_of("axis_model", {"a": "110"})
    assert "comparison" not in made(tmp_path, rows).facts
    with pytest.raises(InputError, match="--split axis_model: 2 to 50 different values are expected"):
        made(tmp_path, rows, split="model")


def test_parts_that_share_no_row_are_named(tmp_path: Path) -> None:
    """Models that answered different rows are not compared, and the page says why."""
    rows = [
        {"id": f"q{place}", "axis_model": model, "truth": "1", "response": "1", "status": "completed"}
        for place, model in enumerate("aabb")
    ]
    report = made(tmp_path, rows)
    assert "comparison" not in report.facts
    assert any("'axis_model' are not compared: a and b share no key" in note for note in report.facts["notes"])


def test_a_baseline_comes_before_the_parts(tmp_path: Path) -> None:
    """With --compare the parts are not compared; --split and --compare together are refused."""
    rows = rows_of("axis_model", {"a": "110", "b": "100"})
    write_rows(tmp_path / "old.csv", rows)
    report = made(tmp_path, rows, baseline=str(tmp_path / "old.csv"))
    assert report.facts["comparison"]["split"] is None
    with pytest.raises(InputError, match="--split: compares the parts of one table, --compare two tables"):
        made(tmp_path, rows, baseline=str(tmp_path / "old.csv"), split="model")


def test_split_needs_a_scorer() -> None:
    """--split without a scorer is refused."""
    with pytest.raises(InputError, match="--split: is an option of scoring"):
        check_scoring(ScoringSpec((), ScoreColumns(split="model")))
