"""The work of a batch until its input changes: rows that no check has seen are not sent."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TypeVar

from batchrun.engine import CachedRow, SkippedRow
from batchrun.errors import InputError
from batchrun.tables import InputWatch

__all__ = ["ahead_while_unchanged", "while_unchanged"]

T = TypeVar("T")

ROWS_A_CHECK = 256


def ahead_while_unchanged(work: Iterator[T], input_watch: InputWatch) -> Iterator[T]:
    """Yield the work until the input changes, for whoever takes many rows before one is sent: a pass of the Batch API,
    and a shard of workers. `ROWS_A_CHECK` rows share a check: they are read before it."""
    try:
        while items := list(islice(work, ROWS_A_CHECK)):
            if input_watch.changed():
                return
            yield from items
    except InputError:
        if not input_watch.changed():
            raise


def while_unchanged(work: Iterator[T], input_watch: InputWatch) -> Iterator[T]:
    """Yield the work until the input changes: rows that no check has seen are not sent, and of rows that send nothing
    one in `ROWS_A_CHECK` is checked."""
    try:
        for number, item in enumerate(work):
            is_checked = number % ROWS_A_CHECK == 0 or not isinstance(item, CachedRow | SkippedRow)
            if is_checked and input_watch.changed_before_row():
                return
            yield item
    except InputError:
        if not input_watch.changed():
            raise
