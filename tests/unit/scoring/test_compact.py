"""Lists that take a few bytes an entry, and the tally that consists of them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from batchrun.scoring.compact import Choices, Coded, Flags, Numbers
from batchrun.scoring.comparison import compare
from batchrun.scoring.contender import contender
from batchrun.scoring.score_columns import ScoreColumns
from batchrun.scoring.score_tally import ScoreTally
from batchrun.scoring.scorers.registry import make_scorers
from batchrun.scoring.summary import summarize
from batchrun.scoring.table import open_scored


def test_compact_lists_are_lists() -> None:
    """Values come back as they were given, in loops, slices and parts, and can be replaced and counted."""
    numbers, flags, kinds = Numbers([0.5, None]), Flags([True, False]), Choices(("a", "b"), ["b", "a"])
    numbers.append(None)
    numbers[1] = 1.0
    kinds.insert(0, "b")
    assert (list(numbers), numbers[-1], list(numbers.part([2, 0]))) == ([0.5, 1.0, None], None, [None, 0.5])
    assert (list(flags), flags[1], list(kinds[1:]), kinds.count("b")) == ([True, False], False, ["b", "a"], 2)
    assert kinds.are("b").tolist() == [True, True, False]
    with pytest.raises(KeyError):
        kinds.append("c")


def test_numbers_of_any_kind_come_back() -> None:
    """Numbers come back whether few or many of them differ; a copy and the original change apart from each other."""
    given = [None, *(number / 7 for number in range(300)), None, 0.5]
    numbers, few = Numbers(given), Numbers(given[:200])
    assert (list(numbers), list(few), numbers[-1]) == (given, given[:200], 0.5)
    for each in (numbers, few):
        copied = each.copy()
        copied[0] = 12.0
        assert (copied[0], each[0], copied[1:]) == (12.0, None, each[1:])
        assert np.array_equal(each.column[:], each.array, equal_nan=True)
        assert each.column.are_known().tolist() == [value is not None for value in each]
        assert each.column[np.array([1, 3])].tolist() == [0.0, 2 / 7]
        assert list(each.known) == [value for value in each if value is not None]


@pytest.mark.parametrize("different", [2, 300, 70_000])
def test_values_of_any_number_come_back(different: int) -> None:
    """Values come back whether they take a byte, two or a reference; the codes say which are equal."""
    given = [f"{number % different}" for number in range(max(different, 1_000))]
    coded = Coded(given)
    coded[1] = "0"
    coded.append("last")
    expected = [given[0], "0", *given[2:], "last"]
    assert list(coded) == expected
    values, codes = coded.codes
    assert [values[code] for code in codes.tolist()] == expected
    assert (list(coded.part([1, 0])), coded[-1]) == (["0", "0"], "last")


def peak_bytes(path: Path, rows: int) -> int:
    """Return the memory that is left of so many scored rows, and the most that their figures take besides."""
    lines = (f"{number % 9},{number % 7 + 100},completed,{number % 8 + 100}\n" for number in range(rows))
    path.write_text("topic,response,status,target\n" + "".join(lines), encoding="utf-8")
    table = open_scored(str(path), make_scorers(["numeric"]), ScoreColumns(target="target", by=("topic",)))
    tally = ScoreTally()
    tracemalloc.start()
    for _ in table.scored(tally):
        pass
    tracemalloc.reset_peak()  # of the reader, which reads many rows at once
    summarize(tally)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_a_scored_row_takes_few_bytes(tmp_path: Path) -> None:
    """Twice as many rows take at most 150 bytes of memory more for each, the figures included."""
    peak_bytes(tmp_path / "a.csv", 10)
    assert peak_bytes(tmp_path / "a.csv", 4_000) - peak_bytes(tmp_path / "a.csv", 2_000) < 2_000 * 150


def kept_bytes(path: Path, rows: int) -> int:
    """Return the most memory that the comparison of two tables of so many rows takes, without reading them."""
    lines = (
        f"question-{number},{number % 7},0.001,1.5,{number % 90},completed,{number % 8}\n" for number in range(rows)
    )
    path.write_text("id,response,cost_usd,duration_s,total_tokens,status,target\n" + "".join(lines), encoding="utf-8")
    columns = ScoreColumns(target="target", key="id")
    tables = [open_scored(str(path), make_scorers(["numeric"]), columns) for _ in range(2)]
    tallies = [ScoreTally(), ScoreTally()]
    tracemalloc.start()
    for table, tally in zip(tables, tallies, strict=True):
        for _ in table.scored(tally, for_comparison=True):
            pass
    tracemalloc.reset_peak()  # of the reader, which reads many rows at once
    compare([contender(table, "skip", tally) for table, tally in zip(tables, tallies, strict=True)], "skip")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_a_compared_row_takes_few_bytes(tmp_path: Path) -> None:
    """Twice as many rows of two tables take at most 130 bytes of memory more for each, the pairing included."""
    kept_bytes(tmp_path / "a.csv", 10)
    more = kept_bytes(tmp_path / "a.csv", 4_000) - kept_bytes(tmp_path / "a.csv", 2_000)
    assert more < 2 * 2_000 * 130, more / 4_000
