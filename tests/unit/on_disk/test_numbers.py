"""Numbers of rows in a temporary file."""

from __future__ import annotations

import numpy as np

from batchrun.on_disk.numbers import StoredNumbers


def test_rows_are_read_as_they_were_added() -> None:
    """Rows come back in order, one by one or many at once, from the file and from memory; a row can be replaced."""
    rows, numbers = 40_000, StoredNumbers(2)
    for row in range(20_000):
        numbers.append(row, -row)
    numbers.extend(np.array([[row, -row] for row in range(20_000, rows)]))
    numbers[5] = numbers[rows - 1] = (7.5, 8.5)
    assert (len(numbers), numbers[4], numbers[5], numbers[rows - 1]) == (rows, (4, -4), (7.5, 8.5), (7.5, 8.5))
    read = np.concatenate(list(numbers.parts()))
    expected = np.array([[row, -row] for row in range(rows)], np.float64)
    expected[[5, rows - 1]] = 7.5, 8.5
    assert (read == expected).all()
    assert max(len(part) for part in numbers.parts()) < rows


def test_a_column_has_the_known_numbers() -> None:
    """Unknown numbers are left out; a column can be read several times."""
    numbers = StoredNumbers(2)
    for row in ((1.0, 2.0), (3.0, float("nan")), (5.0, 6.0)):
        numbers.append(*row)
    column = numbers.column(1)
    assert [part.tolist() for part in column] == [part.tolist() for part in column] == [[2.0, 6.0]]


def test_integers_keep_all_bits() -> None:
    """Integers of 64 bits are not rounded."""
    numbers = StoredNumbers(1, "q")
    numbers.append(2**62 + 1)
    assert numbers[0] == (2**62 + 1,)
