"""Rows that have ended: each is reported when its outcome is committed, and not before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import anyio

from batchrun.journal import Carried, Journal
from batchrun.records import Outcome

__all__ = ["Callback", "EndedRow", "EndedRows", "Origin"]

Origin: TypeAlias = Literal["service", "input", "cache"]
"""Where an outcome comes from: the service, the input (a row that could not be asked), or another batch."""


class EndedRow(NamedTuple):
    """A row whose outcome is written to the journal.

    Attributes:
        carried: usage that it shares with an earlier outcome of the row.
    """

    outcome: Outcome
    origin: Origin
    carried: Carried | None = None


class Callback:
    """The caller's function for outcomes; it is not called again once it has failed, for rows that end in that moment.

    Mutable state: `_function`, None once it has failed.
    """

    def __init__(self, function: Callable[[Outcome], None] | None) -> None:
        self._function = function

    def __call__(self, outcome: Outcome) -> None:
        function, self._function = self._function, None
        if function is not None:
            function(outcome)
            self._function = function


class EndedRows:
    """The rows whose outcome is written, but not reported yet.

    One task reports them all: a row's own task would have to wait once more.

    Mutable state: `_written`, those rows, oldest first; `_new`, set when there is one.
    """

    def __init__(self, journal: Journal, report: Callable[[EndedRow], None], *, calls_users_code: bool = False) -> None:
        """
        Args:
            report: called for each row, in the order of `add`.
            calls_users_code: `report` may hold the event loop, so that no write of the same turn may wait for its end.
        """
        self._journal = journal
        self._report = report
        self._calls_users_code = calls_users_code
        self._written: deque[EndedRow] = deque()
        self._new = anyio.Event()

    def add(self, row: EndedRow) -> None:
        """Report the row when the journal has committed what is written now."""
        self._written.append(row)
        self._new.set()

    async def keep_reporting(self) -> None:
        """Report rows, group after group. Runs until cancelled.

        Raises:
            OutputError: an outcome could not be committed.
        """
        while True:
            await self._new.wait()
            self._new = anyio.Event()
            number = len(self._written)  # later ones may belong to the next group
            await self._journal.committed()
            if self._calls_users_code:
                self._journal.flush()  # rows that ended in this turn must not wait for that code
            for _ in range(number):
                self._report(self._written.popleft())

    def report_rest(self) -> None:
        """Report the rows that are left, now that everything is committed."""
        while self._written:
            self._report(self._written.popleft())
