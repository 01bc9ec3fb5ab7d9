"""The objects that a batch has created at services, and which of them are deleted.

Threads, conversations and responses are named by the attempts; they enter the table `created` when somebody wants to
delete them, so that a row costs no further write. Everything else enters it when it is created.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from batchrun.journal.attempt_ids import attempts_with_ids
from batchrun.journal.database import Database
from batchrun.journal.part import JournalPart
from batchrun.journal.row_records import stamp
from batchrun.records import Manifest

__all__ = ["Created", "CreatedObjects", "Kind", "place_of"]

Kind: TypeAlias = Literal["thread", "conversation", "response", "assistant", "file", "vector_store"]

PAGE = 500

_IN_FLIGHT = """EXISTS (
    SELECT 1 FROM attempts AS last
    WHERE last.row_key = created.row_key
    AND last.number = (SELECT max(number) FROM attempts AS same WHERE same.row_key = last.row_key)
    AND (last.fault_type IS NULL OR last.run_id IS NOT NULL AND NOT last.run_ended)
    AND NOT EXISTS (SELECT 1 FROM outcomes AS o WHERE o.row_key = last.row_key AND o.attempts >= last.number)
)"""
"""Whether the row is in flight: the next run of the batch follows its run, and does not pay for another."""

_NAMED_BY_ATTEMPTS = {
    "assistants": (("thread", "thread_id", "thread_id IS NOT NULL"),),
    "responses": (
        # The last part of a custom id of the Batch API is a number, which no service knows.
        ("response", "run_id", "run_id IS NOT NULL AND run_id NOT GLOB 'row[0-9]*-turn[0-9]*-attempt[0-9]*-[0-9]*'"),
        # Without a Conversation, the thread is the chain of responses, under the id of the first one.
        ("conversation", "thread_id", "thread_id IS NOT NULL AND thread_id NOT LIKE 'resp\\_%' ESCAPE '\\'"),
    ),
    "chat": (),
}
"""By protocol: (kind, column of `attempts_with_ids` that names the object, condition)."""


def place_of(manifest: Manifest) -> str:
    """Return where the objects of a batch are: the service's URL, or `embedded`."""
    if manifest["settings"].get("embedded"):
        return "embedded"
    return manifest.get("base_url") or "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class Created:
    """One object.

    Attributes:
        row_key: key of the row that it was created for, None for the whole batch.
    """

    kind: Kind
    object_id: str
    row_key: str | None


class CreatedObjects(JournalPart):
    """The table `created`. Ids are unique over all kinds."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._attempts = attempts_with_ids(database.version)

    def add(self, made: Created, place: str) -> None:
        """Record an object. One that is recorded already stays as it is."""
        self._write(
            "INSERT OR IGNORE INTO created (id, kind, place, row_key) VALUES (?, ?, ?, ?)",
            (made.object_id, made.kind, place, made.row_key),
        )

    def gather(self, manifest: Manifest, row_key: str | None = None) -> None:
        """Record the objects that attempts name, of one row or of all.

        Threads of a `thread_column` are the user's own, and are left out.
        """
        place = place_of(manifest)
        for kind, column, condition in _NAMED_BY_ATTEMPTS[manifest["settings"].get("api", "assistants")]:
            if column == "thread_id" and manifest["settings"].get("thread_column"):
                continue
            one_row = "" if row_key is None else " AND row_key = ?"
            self._write(
                f"INSERT OR IGNORE INTO created (id, kind, place, row_key) SELECT {column}, ?, ?, row_key "
                f"FROM {self._attempts} WHERE {condition}{one_row}",
                (kind, place) if row_key is None else (kind, place, row_key),
            )
        if row_key is None:
            self._gather_files()

    def _gather_files(self) -> None:
        """Record the files of service batches whose results are in the journal."""
        for column in ("input_file_id", "output_file_id", "error_file_id"):
            self._write(
                f"INSERT OR IGNORE INTO created (id, kind, place) SELECT {column}, 'file', place FROM service_batches "
                f"WHERE {column} IS NOT NULL AND collected_at IS NOT NULL AND deleted_at IS NULL",
                (),
            )

    def of_row(self, row_key: str, place: str) -> list[Created]:
        """Return the objects of a row that are not deleted."""
        rows = self._read(
            "SELECT kind, id, row_key FROM created WHERE row_key = ? AND place = ? AND deleted_at IS NULL",
            (row_key, place),
        )
        return [Created(*row) for row in rows]

    def left(self, place: str, *, of_rows: bool, followed: bool) -> Iterator[Created]:
        """Yield the objects at `place` that are not deleted. They may be deleted as they come.

        Args:
            of_rows: objects of rows; False for those of the whole batch.
            followed: include objects that rows in flight still need.
        """
        condition = self._condition(of_rows=of_rows, followed=followed)
        after = ""
        while True:
            rows = self._read(
                f"SELECT kind, id, row_key FROM created WHERE {condition} AND place = ? AND id > ? "
                f"ORDER BY id LIMIT {PAGE}",
                (place, after),
            )
            for row in rows:
                yield Created(*row)
            if len(rows) < PAGE:
                return
            after = rows[-1][1]

    def count(self, place: str, *, of_rows: bool, followed: bool) -> int:
        """Return how many objects `left` yields."""
        condition = self._condition(of_rows=of_rows, followed=followed)
        return int(self._read(f"SELECT count(*) FROM created WHERE {condition} AND place = ?", (place,))[0][0])

    def elsewhere(self, place: str) -> dict[str, int]:
        """Return other place → number of objects that the batch left there before its service changed."""
        return dict(
            self._read(
                "SELECT place, count(*) FROM created WHERE deleted_at IS NULL AND place != ? "
                "GROUP BY place ORDER BY place",
                (place,),
            )
        )

    def deleted(self, object_id: str, at: datetime) -> None:
        """Record that the object is deleted."""
        self._write("UPDATE created SET deleted_at = ? WHERE id = ?", (stamp(at), object_id))

    @staticmethod
    def _condition(*, of_rows: bool, followed: bool) -> str:
        rows = "row_key IS NOT NULL" if of_rows else "row_key IS NULL"
        return f"deleted_at IS NULL AND {rows}" + ("" if followed else f" AND NOT {_IN_FLIGHT}")
