"""Shards: some rows of a batch's input, in a file of their own from which a worker reads them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from batchrun.errors import OutputError
from batchrun.journal import Journal
from batchrun.journal.histories import KEYS_AT_ONCE
from batchrun.records import Row

__all__ = ["MAX_SHARD_ROWS", "ShardRows", "leave_out_ended", "shard_size", "share_of", "usable_files", "write_rows"]

MAX_SHARD_ROWS: Final = 10_000
_FEWEST_ROWS: Final = 100
_SHARDS_A_WORKER: Final = 2
_CHUNK_ROWS: Final = 500


def shard_size(rows_left: int, workers: int) -> int:
    """Return the number of rows of the next shard. The last ones are small, so that all workers end at about the same
    time.

    >>> shard_size(1_000_000, 4), shard_size(8_000, 4), shard_size(30, 4)
    (10000, 1000, 100)
    """
    return min(MAX_SHARD_ROWS, max(_FEWEST_ROWS, -(-rows_left // (workers * _SHARDS_A_WORKER))))


def share_of(total: int | None, number: int, workers: int) -> int | None:
    """Return a worker's share of `total` rows in flight.

    >>> [share_of(10, number, 3) for number in range(3)]
    [4, 3, 3]
    """
    return None if total is None else total // workers + (number < total % workers)


@contextmanager
def usable_files(path: Path) -> Iterator[None]:
    """Raise OutputError for a file or a folder of workers that cannot be used, as on a full disk."""
    try:
        yield
    except OSError as exc:
        is_file = isinstance(exc, FileExistsError | NotADirectoryError)
        reason = "it is a file, not a folder" if is_file else exc.strerror or exc
        raise OutputError(
            f"{exc.filename or path}: the workers of this batch cannot use it ({reason}); every answer "
            "that was journalled is safe: remove the cause, and run the same command again"
        ) from None


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows for `ShardRows`.

    Raises:
        OutputError: the file cannot be written.
    """
    with usable_files(path), path.open("wb") as file:
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
        """Yield the rows.

        Raises:
            OutputError: the file cannot be read.
        """
        with usable_files(self.path):
            file = self.path.open("rb")
        with file:
            while file.peek(1):
                for row_index, values, line, part in pickle.load(file):
                    yield Row(row_index, dict(zip(self.columns, values, strict=True)), line, part)

    def fingerprint(self) -> str:
        """A shard has none: the leader has the fingerprint of the input."""
        raise NotImplementedError


def leave_out_ended(
    shard: ShardRows, key_of: Callable[[Row], str], journal: Journal, mark: int
) -> tuple[list[str], list[str]]:
    """Write a shard again without the rows that have ended since `mark`; return the keys of all its rows, and of those
    that are left.

    Args:
        mark: the row id of an outcome in the journal of the batch.

    Raises:
        OutputError: the file cannot be read or written.
    """
    rows = {key_of(row): row for row in shard.rows()}
    keys = list(rows)
    for begin in range(0, len(keys), KEYS_AT_ONCE):
        for key, row_id in journal.histories.row_ids(keys[begin : begin + KEYS_AT_ONCE]).items():
            if row_id > mark:
                del rows[key]
    write_rows(shard.path, list(rows.values()))
    return keys, list(rows)
