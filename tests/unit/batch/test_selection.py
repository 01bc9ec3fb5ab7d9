"""The rows that --where, --sample and --limit select, in this order."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from batchrun.batch.selection import Selection, SelectionOptions, select_rows
from batchrun.prompts.combinations import combinations_of
from batchrun.tables import expand
from batchrun.tables.open import open_source
from batchrun.tables.table_options import ReadOptions


def selected(
    rows: int = 20, *, key: str | None = None, settings: dict[str, Any] | None = None, **options: Any
) -> list[int]:
    """Return the positions in the batch of the selected rows of a table with the column `n`, from 0."""
    found = selection(pd.DataFrame({"n": range(rows)}), key=key, settings=settings, **options)
    return found.positions()


def selection(
    frame: pd.DataFrame, *, key: str | None = None, settings: dict[str, Any] | None = None, **options: Any
) -> Selection:
    combinations = combinations_of({"prompt": "", **(settings or {})})
    source = expand(open_source(frame, ReadOptions()), [each.cells for each in combinations])
    found = select_rows(SelectionOptions(**options), source, combinations, key)
    assert found is not None
    assert found.rows == len(found.positions())
    return found


def test_the_order_of_the_options() -> None:
    """--where is first, then --sample of the rows that match, then --limit of these, in the table's order."""
    where = selected(where="n % 2 == 0")
    assert where == list(range(0, 20, 2))
    sample = selected(where="n % 2 == 0", sample=4)
    assert len(sample) == 4
    assert set(sample) < set(where)
    assert selected(where="n % 2 == 0", sample=4, limit=2) == sample[:2]
    assert selected(limit=3) == [0, 1, 2]


def test_a_sample_is_the_same_everywhere() -> None:
    """The sample of a seed is written down here: no machine and no version of Python has another one."""
    assert selected(sample=4) == [9, 11, 15, 19]
    assert selected(sample=4, seed=1) != selected(sample=4)


def test_a_sample_by_identity() -> None:
    """A larger sample contains the smaller ones; with a key, the order and number of the rows do not matter."""
    assert set(selected(sample=4)) < set(selected(sample=9))
    frame = pd.DataFrame({"id": list("abcdefghij")})
    keys = {frame["id"][position] for position in selection(frame, key="id", sample=4).positions()}
    turned = frame[::-1].reset_index(drop=True)
    assert {turned["id"][position] for position in selection(turned, key="id", sample=4).positions()} == keys
    fewer = frame[frame["id"].isin([*keys, "a"])].reset_index(drop=True)
    assert {fewer["id"][position] for position in selection(fewer, key="id", sample=4).positions()} == keys


def test_combinations_of_a_row_stay_together() -> None:
    """Rows are those of the input: each selected one is run in all of its models and epochs."""
    settings = {"matrix": {"model": ["a", "b"]}, "epochs": 2}
    assert selected(limit=2, settings=settings) == list(range(8))
    once = selected(sample=3)
    assert selected(sample=3, settings=settings) == [4 * row + each for row in once for each in range(4)]


@pytest.mark.parametrize(
    ("options", "note", "is_short"),
    [
        ({"where": "n < 5"}, "--where: 5 of 20 rows match; the other 15 are skipped", False),
        ({"where": "n < 5", "limit": 2}, "--where: 5 of 20 rows match · --limit 2: 2 of them; the other 18 are skipped",
         False),
        ({"sample": 30}, "--sample 30: there are only 20, so all of them", True),
        ({"where": "n < 5", "sample": 9, "limit": 6}, "--where: 5 of 20 rows match · --sample 9: there are only 5, so "
         "all of them · --limit 6: there are only 5, so all of them; the other 15 are skipped", True),
        ({"where": "n > 50"}, "--where: no row of 20 matches 'n > 50', so all are skipped and nothing is sent", True),
        ({"limit": 20}, "--limit 20: 20 of 20 rows", False),
        ({"limit": 19}, "--limit 19: 19 of 20 rows; the other one is skipped", False),
    ],
)  # fmt: skip
def test_the_note_of_a_selection(options: dict[str, Any], note: str, is_short: bool) -> None:
    """One line says what each option did; fewer rows than it names, or none, is a surprise."""
    found = selection(pd.DataFrame({"n": range(20)}), **options)
    assert (found.note, found.is_short) == (note, is_short)


def test_a_table_without_rows() -> None:
    """Nothing can be selected of no rows, and that is not an error."""
    found = selection(pd.DataFrame({"n": []}), where="n > 1", sample=2, limit=1)
    assert (found.rows, found.included) == (0, b"")
