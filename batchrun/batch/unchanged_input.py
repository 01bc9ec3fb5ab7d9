"""The work of a batch until its input changes: rows that no check has seen are not sent."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TypeVar

from batchrun.engine import RowWork, SkippedRow
from batchrun.errors import InputError
from batchrun.tables import InputWatch

__all__ = ["pass_while_unchanged", "while_unchanged"]

T = TypeVar("T")

SKIPPED_ROWS_A_CHECK = 256


def pass_while_unchanged(work: Iterator[RowWork], input_watch: InputWatch) -> Iterator[RowWork]:
    """Yield the work of a pass of the Batch API until the input changes. It sends nothing before its end, so many rows
    share a check: they are read before it."""
    try:
        while items := list(islice(work, SKIPPED_ROWS_A_CHECK)):
            if input_watch.changed():
                return
            yield from items
    except InputError:
        if not input_watch.changed():
            raise


def while_unchanged(work: Iterator[T], input_watch: InputWatch) -> Iterator[T]:
    """Yield the work until the input changes: rows that no check has seen are not sent, and of rows that send nothing
    one in `SKIPPED_ROWS_A_CHECK` is checked."""
    try:
        for number, item in enumerate(work):
            is_checked = number % SKIPPED_ROWS_A_CHECK == 0 or not isinstance(item, SkippedRow)
            if is_checked and input_watch.changed_before_row():
                return
            yield item
    except InputError:
        if not input_watch.changed():
            raise
