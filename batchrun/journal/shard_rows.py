"""Rows that a worker asks, copied from the main journal into the journal of their shard and back.

The journal of a shard is an ordinary one with the batch id, the row keys and the row numbers of the main journal.
`seed` makes it, a worker continues it, and `gather` copies what is new in it into the main journal, so that everybody
else reads one journal. What happens to each table:

- `outcomes`: `seed` copies those of the rows; `gather` those that are new, in the order in which the rows ended, in the
  place of earlier ones.
- `attempts`, `exchanges`, `outputs`: `seed` copies those of the rows; `gather` those of the rows that ended, and if
  `whole` also those of rows in flight.
- `superseded`, `cool_downs`: `seed` copies none, since no worker reads them; `gather` copies those that are new.
- `created`: `seed` copies those of the rows, and not those of the whole batch, which no worker may delete; `gather`
  copies all if `whole`.
- `manifest`: `seed` copies all entries, and adds `shard`; `gather` unites `assistants`, `carried` and `prices`.
- `uploads`, `duplicates`, `service_batches`, `request_lines` are not copied: a batch that needs them has no workers.

The main journal records how far each shard is gathered, in the transaction that copies the rows. So nothing is counted
twice if a process dies between `gather` and `drop`, and `gather` can be repeated at any time. A journal that was seeded
once has one history: a shard that continues an earlier copy of its journal has to be seeded again.

Outcomes and superseded ones get growing row ids in the main journal, as if the rows had ended there when they are
gathered. A page that follows the main journal therefore shows a row when it is gathered; until then the row is pending,
or as it was when its shard was seeded.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from batchrun.errors import OutputError
from batchrun.journal.database import Database
from batchrun.journal.journal import Journal
from batchrun.journal.open import create_file
from batchrun.journal.row_records import stamp

__all__ = [
    "begun_after",
    "copy_new",
    "delete_journal",
    "drop",
    "forget_gathered",
    "gather",
    "keep_log",
    "seed",
    "ungathered",
    "whole_copy",
]

_SHARD: Final = "shard"
"""The entry of a shard's manifest: the shard's id, and the last row id of the outcomes that it was seeded with."""
_GATHERED: Final = "gathered/"
"""With the id of a shard, the entry of the main manifest: the last row ids of outcomes, superseded ones and cool-downs
that were gathered from it."""
_OF_ROW: Final = ("attempts", "exchanges", "outputs")
_KEYS: Final = "CREATE TEMP TABLE IF NOT EXISTS shard_keys (row_key TEXT PRIMARY KEY) WITHOUT ROWID"
_LAST: Final = (
    "SELECT (SELECT coalesce(max(rowid), 0) FROM shard.outcomes), (SELECT coalesce(max(rowid), 0) FROM "
    "shard.superseded), (SELECT coalesce(max(rowid), 0) FROM shard.cool_downs)"
)
_OPEN: Final = (
    "INSERT OR IGNORE INTO temp.shard_keys SELECT a.row_key FROM shard.attempts AS a "
    "LEFT JOIN shard.outcomes AS o ON o.row_key = a.row_key WHERE o.row_key IS NULL OR a.number > o.attempts"
)
"""Adds the rows that a worker had begun, or asked again, when it left the shard."""
_CREATED: Final = (
    "INSERT INTO main.created SELECT * FROM shard.created WHERE TRUE "
    "ON CONFLICT (id) DO UPDATE SET deleted_at = coalesce(excluded.deleted_at, deleted_at)"
)


def seed(main: Journal, path: Path, row_keys: Iterable[str]) -> None:
    """Create the journal of a shard at `path`, with everything that a worker has to know about these rows.

    A file at `path` is replaced: nothing of it may be missing in the main journal.

    Raises:
        OutputError: the file cannot be created, or the main journal cannot be used.
    """
    delete_journal(path)
    create_file(path)
    try:
        path.write_bytes(_empty_journal())
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written ({exc.strerror or exc})") from None
    with main.attached(path) as both:
        both.execute(_KEYS)
        both.execute("DELETE FROM temp.shard_keys")
        both.executemany("INSERT OR IGNORE INTO temp.shard_keys VALUES (?)", ((key,) for key in row_keys))
        for table in (*_OF_ROW, "created"):
            both.execute(f"INSERT INTO shard.{table} SELECT * FROM main.{table} WHERE row_key IN temp.shard_keys")
        seeded = both.execute(
            "INSERT INTO shard.outcomes SELECT * FROM main.outcomes WHERE row_key IN temp.shard_keys ORDER BY rowid"
        ).rowcount
        both.execute(
            "INSERT INTO shard.manifest SELECT name, value FROM main.manifest WHERE name NOT GLOB ?", (f"{_GATHERED}*",)
        )
        _write_entry(both, "shard", _SHARD, [secrets.token_hex(8), seeded])


@cache
def _empty_journal() -> bytes:
    """Return the content of a journal without rows: to make one takes longer than to copy it."""
    with TemporaryDirectory(prefix="batchrun-") as folder:
        path = Path(folder, "empty.journal")
        Database(path).close()
        return path.read_bytes()


def keep_log(path: Path) -> sqlite3.Connection:
    """Return a connection to the journal of a shard that keeps its log: whoever else closes the journal, does not move
    the log into the file. That takes time, and the file is deleted soon. The connection itself cannot write.

    Raises:
        OutputError: the journal cannot be read.
    """
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        connection.execute("SELECT count(*) FROM manifest").fetchone()  # the log is opened by the first query
    except sqlite3.Error as exc:
        raise OutputError(f"{path}: cannot be read ({exc})") from exc
    return connection


def gather(main: Journal, path: Path, *, whole: bool = False) -> int:
    """Copy what is new in the journal of a shard into the main journal; return the number of rows that ended.

    Args:
        path: the journal of the shard; a worker may be writing it, unless `whole` is set.
        whole: copy also what is known about rows that have not ended. No worker has the shard any more.

    Raises:
        OutputError: a journal cannot be used, or they belong to different batches.
    """
    with main.attached(path) as both:
        found = _entry(both, "shard", _SHARD)
        if found is None:
            return 0  # the process died while it seeded the shard
        shard_id, seeded = found
        if _entry(both, "shard", "batch_id") != _entry(both, "main", "batch_id"):
            raise OutputError(f"{path}: belongs to another batch than {main.path}; move it away")
        marks = _entry(both, "main", _GATHERED + shard_id) or [seeded, 0, 0]
        last = list(both.execute(_LAST).fetchone())
        if marks == last and not whole:
            return 0
        both.execute(_KEYS)
        both.execute("DELETE FROM temp.shard_keys")
        ended = _copy_ended(both, marks)
        if whole:
            both.execute(_OPEN)
            both.execute(_CREATED)
        for table in _OF_ROW:
            both.execute(f"DELETE FROM main.{table} WHERE row_key IN temp.shard_keys")
            both.execute(f"INSERT INTO main.{table} SELECT * FROM shard.{table} WHERE row_key IN temp.shard_keys")
        _unite_manifests(both)
        _write_entry(both, "main", _GATHERED + shard_id, last)
        return ended


def _copy_ended(both: sqlite3.Connection, marks: list[int]) -> int:
    """Copy outcomes and cool-downs since the marks; put the keys of the rows that ended into `shard_keys`."""
    outcome, superseded, cool_down = marks
    # SQLite may give an outcome the row id of the one that it replaced: then its row is among the superseded ones.
    ended = both.execute(
        "INSERT OR IGNORE INTO temp.shard_keys SELECT row_key FROM shard.outcomes WHERE rowid > ? "
        "UNION SELECT row_key FROM shard.superseded WHERE rowid > ?",
        (outcome, superseded),
    ).rowcount
    # REPLACE chooses the new row id before it deletes the earlier outcome, so it is higher than all that were there. If
    # they were deleted first, the new ones could get their row ids, and nobody would see that they are new.
    replace = "INSERT OR REPLACE INTO main.outcomes SELECT * FROM shard.outcomes"
    both.execute(
        f"{replace} WHERE rowid <= ? AND row_key IN (SELECT row_key FROM shard.superseded WHERE rowid > ?) "
        "ORDER BY rowid",
        (outcome, superseded),
    )
    both.execute(f"{replace} WHERE rowid > ? ORDER BY rowid", (outcome,))
    both.execute(
        "DELETE FROM main.outcomes WHERE row_key IN temp.shard_keys "
        "AND row_key NOT IN (SELECT row_key FROM shard.outcomes)"
    )
    for table, mark in (("superseded", superseded), ("cool_downs", cool_down)):
        both.execute(f"INSERT INTO main.{table} SELECT * FROM shard.{table} WHERE rowid > ? ORDER BY rowid", (mark,))
    return ended


def _unite_manifests(both: sqlite3.Connection) -> None:
    """Add to the main journal's manifest what the engine of a worker has recorded."""
    for name in ("prices", "carried", "assistants"):
        own, new = _entry(both, "main", name), _entry(both, "shard", name)
        if new is None or new == own:
            continue
        if own is None:
            united = new
        elif isinstance(new, dict):
            united = {**new, **own}
        else:
            united = [*own, *(each for each in new if each not in own)]
        if united != own:
            _write_entry(both, "main", name, sorted(united) if name == "carried" else united)


def copy_new(shard: Path, path: Path, since: Sequence[int]) -> list[int]:
    """Make a journal at `path` from which `gather` copies what is new in the journal of a shard on another machine.

    It has the rows that have ended since then, all rows that have not ended, and all created objects. Row ids are those
    of the shard's journal, so that the main one knows what it has from earlier copies.

    Args:
        shard: the journal of the shard; a worker may be writing it.
        path: a file that does not exist.
        since: what an earlier call returned whose copy is gathered; [0, 0, 0] for everything.

    Returns:
        The last row ids of outcomes, superseded ones and cool-downs in the copy.

    Raises:
        OutputError: the copy cannot be written, or the journal cannot be read.
    """
    outcome, superseded, cool_down = since
    create_file(path)
    with Journal(path) as copy, copy.attached(shard) as both:
        last = list(both.execute(_LAST).fetchone())
        both.execute(_KEYS)
        both.execute(
            # With the last outcome, also if it is not new: the last row ids of the copy are those of the shard.
            "INSERT OR IGNORE INTO temp.shard_keys SELECT row_key FROM shard.outcomes WHERE rowid > ? OR rowid = ? "
            "UNION SELECT row_key FROM shard.superseded WHERE rowid > ?",
            (outcome, last[0], superseded),
        )
        both.execute(_OPEN)
        for table in _OF_ROW:
            both.execute(f"INSERT INTO main.{table} SELECT * FROM shard.{table} WHERE row_key IN temp.shard_keys")
        for table in ("created", "manifest"):
            both.execute(f"INSERT INTO main.{table} SELECT * FROM shard.{table}")
        _copy_numbered(both, "outcomes", "row_key IN temp.shard_keys")
        _copy_numbered(both, "superseded", f"rowid >= {superseded:d}")
        _copy_numbered(both, "cool_downs", f"rowid >= {cool_down:d}")
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
    return last


def whole_copy(main: Path, path: Path) -> None:
    """Copy the journal of a batch to `path`, where no file may be, on a connection of its own: call it from a thread.

    Raises:
        OutputError: the journal cannot be read, or the copy cannot be written.
    """
    try:
        with closing(sqlite3.connect(main)) as journal:
            journal.execute("VACUUM INTO ?", (str(path),))
    except sqlite3.Error as exc:
        raise OutputError(f"{path}: the copy of {main.name} cannot be written ({exc})") from exc


def _copy_numbered(both: sqlite3.Connection, table: str, condition: str) -> None:
    """Copy rows of a table with their row ids."""
    columns = ", ".join(column[1] for column in both.execute(f"PRAGMA shard.table_info({table})"))
    both.execute(
        f"INSERT INTO main.{table} (rowid, {columns}) SELECT rowid, {columns} FROM shard.{table} WHERE {condition}"
    )


def ungathered(main: Journal, path: Path) -> int:
    """Return the number of rows that ended in the journal of a shard and are not gathered yet; nothing is written.

    Raises:
        OutputError: a journal cannot be read.
    """
    with Journal(path, read_only=True) as shard:
        found = shard.read_manifest().get(_SHARD)
        if found is None:
            return 0
        marks = main.read_manifest().get(_GATHERED + found[0], [found[1], 0, 0])
        return max(int(last - mark) for last, mark in zip(shard.last_outcome(), marks[:2], strict=True))


def begun_after(main: Journal, path: Path, moment: datetime) -> int:
    """Return the number of attempts that the worker of a shard began after a moment of its own clock.

    Raises:
        OutputError: a journal cannot be read.
    """
    with main.attached(path) as both:
        begun = both.execute("SELECT count(*) FROM shard.attempts WHERE started_at > ?", (stamp(moment),))
        return int(begun.fetchone()[0])


def drop(main: Journal, path: Path) -> None:
    """Delete the journal of a shard, after `gather` has copied the whole of it.

    Raises:
        OutputError: it cannot be deleted.
    """
    with main.attached(path) as both:
        found = _entry(both, "shard", _SHARD)
    delete_journal(path)
    if found is not None:
        main.remove_from_manifest(_GATHERED + found[0])


def forget_gathered(main: Journal) -> None:
    """Forget how far shards were gathered: nobody continues them."""
    for name in main.read_manifest():
        if name.startswith(_GATHERED):
            main.remove_from_manifest(name)


def delete_journal(path: Path) -> None:
    """Delete a journal that nobody uses any more, and its log, if they exist.

    Raises:
        OutputError: it cannot be deleted.
    """
    try:
        for ending in ("", "-wal", "-shm"):  # without its log, the journal would look like an earlier one
            path.with_name(path.name + ending).unlink(missing_ok=True)
    except OSError as exc:
        raise OutputError(f"{path}: cannot be deleted ({exc.strerror or exc})") from None


def _entry(both: sqlite3.Connection, schema: str, name: str) -> Any:
    """Return an entry of a manifest, None without one."""
    found = both.execute(f"SELECT value FROM {schema}.manifest WHERE name = ?", (name,)).fetchone()
    return None if found is None else json.loads(found[0])


def _write_entry(both: sqlite3.Connection, schema: str, name: str, value: object) -> None:
    both.execute(f"INSERT OR REPLACE INTO {schema}.manifest VALUES (?, ?)", (name, json.dumps(value)))
