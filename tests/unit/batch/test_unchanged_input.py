"""The work of a batch whose input changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from batchrun.batch.unchanged_input import ROWS_A_CHECK, ahead_while_unchanged, while_unchanged
from batchrun.records import Row
from batchrun.tables import InputWatch, ReadOptions, open_source


@pytest.mark.parametrize(("reading", "most"), [(while_unchanged, 10), (ahead_while_unchanged, ROWS_A_CHECK)])
def test_rows_that_are_read_after_a_change_are_not_sent(
    tmp_path: Path, reading: Callable[[Iterator[Row], InputWatch], Iterator[Row]], most: int
) -> None:
    """Each row is checked after it was read: of an input that is written over, no row of the new content comes, and of
    the earlier one at most those that were checked before."""
    table = tmp_path / "q.csv"
    table.write_text("q\n" + "".join(f"early {number:0100}\n" for number in range(10_000)))
    source = open_source(table, ReadOptions())
    rows = reading(source.rows(), InputWatch(source))
    found = list(islice(rows, 10))
    table.write_text("q\n" + "".join(f"later {number:0100}\n" for number in range(10_000)))
    found += rows
    assert {row.values["q"][:5] for row in found} == {"early"}
    assert len(found) == most
