"""Where the replies of a judge are kept."""

from __future__ import annotations

from itertools import combinations

import pytest

from batchrun.scoring.pairwise.contestants import Contest
from batchrun.scoring.pairwise.judge import replies_path


@pytest.mark.parametrize(
    ("tables", "contestants", "expected"),
    [
        (["d/a.csv", "d/b.csv"], ["d/a.csv", "d/b.csv"], ["b"]),
        (["d/a.csv", "b.csv", "c.csv"], ["d/a.csv", "b.csv", "c.csv"], ["b", "c", "b-c"]),
        (["d/a.csv", "x/b.csv", "y/b.csv"], ["d/a.csv", "x/b.csv", "y/b.csv"], ["x-b.csv", "y-b.csv", "x-b.csv-y-b.csv"]),
        (["d/a.csv"], ["m/1", "m/2", ""], ["m-1-m-2", "m-1-empty", "m-2-empty"]),
    ],
)  # fmt: skip
def test_each_pair_has_a_file(tables: list[str], contestants: list[str], expected: list[str]) -> None:
    """The replies about one pair of tables, or of parts of one, do not replace those about another."""
    pairs = [Contest(*two, {}, 0, 0) for two in combinations(contestants, 2)]
    found = [str(replies_path("j", each, tables)) for each in pairs]
    assert found == [f"d/a.csv.judge-j-{ending}.csv" for ending in expected]
