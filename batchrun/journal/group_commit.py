"""Group commit: all writes of one turn of the event loop share a transaction.

The first write of a turn begins the transaction, and a callback of the loop commits it at the end of the turn. Whoever
promises something about a write waits for that commit. A group that is older than `GROUP_S` is committed by the next
write, so that a long turn does not keep others waiting. Equal statements of many rows are kept until another statement
follows, and are executed as one.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from batchrun.errors import OutputError

__all__ = ["GROUP_S", "GroupCommit", "rolled_back"]

GROUP_S = 0.005
"""Age in seconds from which the next write does not join a group any more."""


class GroupCommit:
    """The groups of one connection, one after the other, while an event loop runs.

    Once a write or a commit has failed, its group is rolled back and all later ones are refused: a later write may
    rely on a lost one.

    Mutable state: `_is_open`, whether a transaction is open, and `_due_s`, when it is old; `_is_scheduled`, whether a
    callback will commit it; `_waiting`, who waits for its commit; `_is_held`, whether it must stay open;
    `_kept`, the values of statements that belong to it and were not executed yet; `_failure`, the error of the group
    that failed.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        error_of: Callable[[Exception], OutputError],
        clock: Callable[[], float],
    ) -> None:
        """
        Args:
            connection: its thread runs the event loop.
            error_of: makes the error that is raised from a failure of SQLite.
            clock: seconds, for the age of a group.
        """
        self._connection = connection
        self._error_of = error_of
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._is_open = self._is_scheduled = False
        self._due_s = 0.0
        self._is_held = False
        self._waiting: list[asyncio.Future[None]] = []
        self._kept: dict[str, list[tuple[Any, ...]]] = {}
        self._failure: OutputError | None = None

    def begin(self) -> None:
        """Open a transaction for the next write, unless there is one that it can join.

        Raises:
            OutputError: an earlier group has failed.
            sqlite3.Error: the transaction cannot begin.
        """
        if self._failure is not None:
            raise self._failure
        if self._is_open:
            if self._kept:
                self.execute_kept()
            if self._is_held or self._clock() < self._due_s:
                return
            self._commit()
        self._connection.execute("BEGIN IMMEDIATE")
        self._is_open = True
        self._due_s = self._clock() + GROUP_S
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._end_turn)

    def keep(self, sql: str, values: tuple[Any, ...]) -> None:
        """Execute a statement in the open transaction, at the latest before the next other statement.

        Statements that are kept together are committed together.

        Raises:
            OutputError: an earlier group has failed.
            sqlite3.Error: the transaction cannot begin.
        """
        if not self._kept:
            self.begin()
        some = self._kept.get(sql)
        if some is None:
            self._kept[sql] = [values]
        else:
            some.append(values)

    @property
    def has_kept(self) -> bool:
        """Whether statements are kept."""
        return bool(self._kept)

    def execute_kept(self) -> None:
        """Execute the statements that are kept.

        Raises:
            OutputError: one cannot be executed.
        """
        kept, self._kept = self._kept, {}
        try:
            for sql, rows in kept.items():
                self._connection.executemany(sql, rows)
        except (sqlite3.Error, ValueError, OverflowError) as exc:  # or a value that SQLite cannot store
            raise self.fail(exc) from exc

    def drop_kept(self) -> None:
        """Forget the statements that are kept: what they belong to is undone."""
        self._kept.clear()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the open transaction open while the context lasts: its writes belong together."""
        before, self._is_held = self._is_held, True  # blocks may be in blocks
        try:
            yield
        finally:
            self._is_held = before

    async def committed(self) -> None:
        """Return when everything that has been written until now is committed.

        Each caller has a future of its own: if a task is cancelled, so is the future that it waits for.

        Raises:
            OutputError: it could not be committed.
        """
        if self._failure is not None:
            raise self._failure
        if self._is_open:
            waiting = self._loop.create_future()
            self._waiting.append(waiting)
            await waiting

    def flush(self) -> None:
        """Commit what has been written, at once.

        Raises:
            OutputError: it cannot be committed, or an earlier group has failed.
        """
        if self._failure is not None:
            raise self._failure
        if self._is_open:
            self._commit()

    def fail(self, exc: Exception) -> OutputError:
        """Roll back the open group, give the error to everybody who waits, and refuse later ones; return the error."""
        self._is_open = False
        self._kept.clear()
        rolled_back(self._connection)
        if self._failure is None:
            self._failure = self._error_of(exc)
            self._failure.__cause__ = exc
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_exception(self._failure)
        return self._failure

    def _end_turn(self) -> None:
        self._is_scheduled = False
        if self._is_open:
            with suppress(OutputError):  # whoever waits for the group gets the error, and every later call raises it
                self._commit()

    def _commit(self) -> None:
        if self._kept:
            self.execute_kept()
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as exc:
            raise self.fail(exc) from exc
        self._is_open = False
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():  # it is, if its task was cancelled
                each.set_result(None)


def rolled_back(connection: sqlite3.Connection) -> None:
    """Roll back the open transaction, if there is one: some failures of SQLite have done it already."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")
