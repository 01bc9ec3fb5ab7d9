"""The connections that a limit on file descriptors leaves, and the line about it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batchrun.batch.file_descriptors import RESERVE, ConnectionLimit, connection_limit, raise_limit

resource = pytest.importorskip("resource", reason="Windows has no such limit")


@pytest.mark.parametrize(
    ("connections", "wanted", "said"),
    [
        (100, 100, None),
        (100, 20, None),
        (99, 100, "at most 99 rows in flight: this process may open only 256 files (ulimit -n 256)"),
        (10_000, 20_000, "at most 10,000 rows in flight: batchrun opens at most 10,000 connections"),
        (1, 2, "at most 1 row in flight: this process may open only 256 files (ulimit -n 256)"),
    ],
)
def test_a_line_where_fewer_rows_are_possible(connections: int, wanted: int, said: str | None) -> None:
    """A line reports how many rows can be in flight, only if more were wanted."""
    assert ConnectionLimit(256, connections).notice(wanted) == said


def test_room_follows_what_is_open() -> None:
    """Each open descriptor leaves one connection fewer; a server in the same process takes half of them."""
    raise_limit()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/dev/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + RESERVE + 40, hard))
    opened: list[int] = []
    try:
        before = connection_limit(embedded=False)
        opened += [os.dup(0) for _ in range(10)]
        after, shared = connection_limit(embedded=False), connection_limit(embedded=True)
    finally:
        for number in opened:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert before is not None and after is not None and shared is not None  # noqa: PT018 - for the types
    assert before.connections - after.connections == 10
    assert shared.connections == after.connections // 2
    assert 25 <= after.connections <= 31


def test_a_full_table_leaves_one_row() -> None:
    """Without a free descriptor one row at a time is still sent."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())) + 2, hard))
    try:
        left = connection_limit(embedded=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert left is not None
    assert left.connections == 1
