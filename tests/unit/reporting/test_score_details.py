"""Scores by length and cost, confused labels, and the figures of fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from batchrun.on_disk.numbers import StoredNumbers
from batchrun.reporting.field_facts import field_facts, group_columns
from batchrun.reporting.rows import Column, ReportRow, RowColumns, pending_cells
from batchrun.reporting.score_details import bands, confusion, labels_of, score_details
from batchrun.scoring.scorers.base import Score


def test_bands_have_equal_numbers_of_rows_and_keep_equal_amounts_together() -> None:
    """Fifty rows make five bands of ten, thirty make three; rows with the same length are never in two bands."""

    def found(
        scores: Sequence[float | None], amounts: Sequence[float | None]
    ) -> list[tuple[float, float, int, float | None]]:
        numbers = StoredNumbers(2)
        numbers.extend(np.array([scores, amounts], dtype=np.float64).T)
        return [(each["least"], each["most"], each["n"], each["mean"]) for each in bands(numbers, 0, 1, whole=True)]

    amounts: list[float | None] = list(range(50, 0, -1))
    assert found([0.0, 1.0] * 25, amounts) == [(first, first + 9, 10, 0.5) for first in (1, 11, 21, 31, 41)]
    assert [each[2] for each in found([1.0] * 30, amounts[:30])] == [10, 10, 10]
    assert found([1.0] * 19 + [None], amounts[:20]) == [(32, 50, 19, 1.0)]
    assert found([1.0] * 12 + [0.0] * 12, [3] * 24) == [(3, 3, 24, 0.5)]
    assert found([1.0] * 9, amounts[:9]) == found([], []) == []


def test_confusion_counts_each_pair_once() -> None:
    """Expected labels are lines; labels that were never expected, and answers without one, have columns at the end."""
    pairs: list[tuple[str, str | None]] = [("b", "b"), ("a", "a"), ("a", "b"), ("a", None), ("b", "zebra")]
    assert confusion(pairs) == {
        "expected": ["a", "b"],
        "given": ["a", "b", "zebra"],
        "counts": [[1, 1, 0, 0, 1], [0, 1, 1, 0, 0]],
    }
    rare = [("a", f"other {number}") for number in range(9)] + [("b", "b")] * 9
    found = confusion(rare)
    assert found is not None
    assert (len(found["given"]), found["counts"][0][-2]) == (8, 3)


@pytest.mark.parametrize(
    "expected", [["a"] * 9, [f"text {number}" for number in range(9)], [f"{number % 21}" for number in range(99)]]
)
def test_texts_are_not_labels(expected: list[str]) -> None:
    """One label, a text of its own in most rows, or more than 20 labels have no confusion table."""
    assert confusion([(each, each) for each in expected]) is None


def test_long_texts_are_not_compared_as_labels() -> None:
    """A long expected text has no label, and a long answer is cut."""
    scores = [Score(1.0, "", None, ("x" * 61, "x")), Score(0.0, "", None, ("x", "y" * 99)), Score(0.0, ""), None]
    found = labels_of(["a", "b", "c", "d"], scores)
    assert list(found) == ["b"]
    assert len(found["b"][1] or "") <= 61


def row(answer: str | None, status: str = "completed", **more: Any) -> ReportRow:
    cells = {**pending_cells(), "status": status, "response": answer, **more.pop("cells", {})}
    return ReportRow("0", {}, cells, **more)


def test_the_length_is_in_characters_without_tokens() -> None:
    """Without token counts, the score is shown by the characters of the answer; cost is left out if unknown."""
    columns = RowColumns([Column("score_a", "score", "a")])
    rows = [row("x" * length, scores={"a": 0.5}) for length in range(20)]
    (found,) = score_details(rows, columns)
    assert [each["measure"] for each in found["by"]] == ["characters"]
    assert found["bars"] is not None
    (found,) = score_details([row(None, "failed", scores={"a": None})], columns)
    assert (found["by"], found["bars"], found["confusion"]) == ([], None, None)


FIELDS = RowColumns(
    [Column("axis_model", "own", "axis_model"), Column("f", "field", "f"), Column("topic", "own", "topic")]
)


def fields(*cells: Any) -> Any:
    rows = [row("{}", fields={"f": cell}) for cell in cells]
    return field_facts([*rows, row(None, "failed"), row(None, "skipped"), row("?")], FIELDS, ())[0]


@pytest.mark.parametrize(
    ("cells", "kind", "different"),
    [
        ([1, 2.5, "3", " -4e2 "], "numbers", 4),
        ([True, False, True], "values", 2),
        (["1", "2", "three"], "values", 3),
        ([f"text {number}" for number in range(13)], "texts", 13),
        ([f"text {number % 13}" for number in range(26)], "values", 13),
        ([f"text {number % 51}" for number in range(500)], "texts", 51),
        ([1e308, -1e308, 10**400], "values", 3),
        (["1e999", 1], "values", 2),
        ([None, ""], "none", 0),
    ],
)
def test_the_kind_of_a_field(cells: list[Any], kind: str, different: int) -> None:
    """Numbers, few values and texts are told apart; rows without an answer do not count as missing."""
    found = fields(*cells)
    assert (found["kind"], found["different"]) == (kind, different)
    assert found["n"] + found["missing"] == len(cells) + 1


def test_values_are_counted_the_most_frequent_first() -> None:
    """At most 12 values are listed, with their rows."""
    assert fields(True, False, True)["values"] == [("true", 2), ("false", 1)]
    assert len(fields(*(f"text {number % 13}" for number in range(26)))["values"]) == 12


def test_numbers_are_shown_by_group() -> None:
    """The groups are those of --by and of a batch's axes, if there are several."""
    rows = [
        ReportRow("0", {"axis_model": model, "topic": "t"}, row("{}").cells, fields={"f": number})
        for model, number in (("a", 1), ("a", 3), ("b", 10))
    ]
    groups = group_columns(FIELDS, ("topic",))
    assert [each.name for each in groups] == ["axis_model", "topic"]
    (found,) = field_facts(rows, FIELDS, groups)
    assert [(each["column"], each["label"], each["n"], each["mean"], each["p50"]) for each in found["groups"]] == [
        ("axis_model", "a", 2, 2.0, 2.0), ("axis_model", "b", 1, 10.0, 10.0),
    ]  # fmt: skip
