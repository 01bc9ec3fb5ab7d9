"""Shards: some rows of a batch's input, in a file of their own from which a worker reads them."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from batchrun.records import Row

__all__ = ["MAX_SHARD_ROWS", "ShardRows", "shard_size", "write_rows"]

MAX_SHARD_ROWS: Final = 10_000
_FEWEST_ROWS: Final = 100
_SHARDS_A_WORKER: Final = 4
_CHUNK_ROWS: Final = 500


def shard_size(rows_left: int, workers: int) -> int:
    """Return the number of rows of the next shard. The last ones are small, so that all workers end at about the same
    time.

    >>> shard_size(1_000_000, 4), shard_size(8_000, 4), shard_size(30, 4)
    (10000, 500, 100)
    """
    return min(MAX_SHARD_ROWS, max(_FEWEST_ROWS, -(-rows_left // (workers * _SHARDS_A_WORKER))))


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows for `ShardRows`."""
    with path.open("wb") as file:
        for begin in range(0, len(rows), _CHUNK_ROWS):
            chunk = [
                (row.row_index, tuple(row.values.values()), row.line, row.part)
                for row in rows[begin : begin + _CHUNK_ROWS]
            ]
            pickle.dump(chunk, file, pickle.HIGHEST_PROTOCOL)


@dataclass(frozen=True, slots=True)
class ShardRows:
    """The rows of a shard, as a `Source`. They have the positions that they have in the input.

    Attributes:
        name: the input's name, for messages.
        columns: the input's columns, with those of combinations.
        path: a file of `write_rows`.
    """

    name: str
    columns: tuple[str, ...]
    path: Path

    def rows(self) -> Iterator[Row]:
        """Yield the rows."""
        with self.path.open("rb") as file:
            while file.peek(1):
                for row_index, values, line, part in pickle.load(file):
                    yield Row(row_index, dict(zip(self.columns, values, strict=True)), line, part)

    def fingerprint(self) -> str:
        """A shard has none: the leader has the fingerprint of the input."""
        raise NotImplementedError
