"""Lists that take a few bytes an entry, and the tally that consists of them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from batchrun.scoring.compact import Choices, Flags, Numbers, Texts
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


def test_texts_come_back() -> None:
    """Texts of any characters, also half a surrogate pair and the empty text, come back in loops, slices and parts."""
    given = ["q1", "", "ключ", "\ud800", "\0"]
    texts = Texts(given)
    assert list(texts) == given
    assert (texts[-1], list(texts[1:3]), list(texts.part([3, 0]))) == ("\0", ["", "ключ"], ["\ud800", "q1"])
    with pytest.raises(IndexError):
        texts[5]


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
    more = kept_bytes(tmp_path / "a.csv", 6_000) - kept_bytes(tmp_path / "a.csv", 3_000)
    assert more < 2 * 3_000 * 130, more / 6_000
