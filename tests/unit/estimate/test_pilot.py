"""A sample of a table is the table, except for its rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from batchrun.estimate.pilot import PilotSample
from batchrun.records import Row


@dataclass(frozen=True)
class Table:
    """Ten rows; reading past one of them is recorded."""

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
    """The sample has the rows at its positions, unchanged, with their index and line."""
    assert list(PilotSample(Table(), positions).rows()) == [row for row in Table().rows() if row.row_index in positions]


def test_a_sample_reads_no_further_than_its_last_row() -> None:
    """No row after the last of the sample is read: a large table must not delay the answers."""
    assert [row.row_index for row in PilotSample(Table(readable=4), frozenset({1, 3})).rows()] == [1, 3]


def test_a_sample_is_the_table_in_all_else() -> None:
    """Name, columns and fingerprint are the table's, so that the journal recognizes the same batch."""
    sample, table = PilotSample(Table(), frozenset({1})), Table()
    assert (sample.name, sample.columns, sample.fingerprint()) == (table.name, table.columns, table.fingerprint())
