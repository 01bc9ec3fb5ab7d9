"""A sample of a table is the table, but for its rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from batchrun.estimate.pilot import PilotSample
from batchrun.records import Row


@dataclass(frozen=True)
class Table:
    """Ten rows; whoever reads past one of them learns of it."""

    readable: int = 10
    name: str = "ten.csv"
    columns: tuple[str, ...] = ("question",)

    def rows(self) -> Iterator[Row]:
        for index in range(10):
            assert index < self.readable, f"row {index} was read"
            yield Row(index, {"question": str(index)}, index + 2)

    def fingerprint(self) -> str:
        return "ten"


@given(st.frozensets(st.integers(0, 9)))
def test_a_sample_has_its_rows_in_the_tables_order(positions: frozenset[int]) -> None:
    """The rows at the positions, as they are in the table, with their index and line."""
    assert list(PilotSample(Table(), positions).rows()) == [row for row in Table().rows() if row.row_index in positions]


def test_a_sample_reads_no_further_than_its_last_row() -> None:
    """Nothing behind the last row of the sample is read: a large table must not keep the answers waiting."""
    assert [row.row_index for row in PilotSample(Table(readable=4), frozenset({1, 3})).rows()] == [1, 3]


def test_a_sample_is_the_table_in_all_else() -> None:
    """Name, columns and fingerprint are the table's, so that the journal takes it for the same batch."""
    sample, table = PilotSample(Table(), frozenset({1})), Table()
    assert (sample.name, sample.columns, sample.fingerprint()) == (table.name, table.columns, table.fingerprint())
