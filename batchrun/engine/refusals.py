"""Refused rows: each is held back until it is known whether the refusals concern all rows, or only these."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import anyio

from batchrun.engine.row import RowRun
from batchrun.errors import BatchRefused
from batchrun.records import Failed

__all__ = ["Refusals", "RefusedRow"]

REFUSALS_IN_A_ROW = 5
"""Refused rows without an answer between them, after which a refusal concerns all rows."""


class RefusedRow(NamedTuple):
    """A refused row that is held back.

    Attributes:
        sent_at_s: loop time of its last request.
    """

    row: RowRun
    outcome: Failed
    fingerprint: str
    sent_at_s: float


class Refusals:
    """The rows refused since the last answer.

    Mutable state: `_held`, those rows; `_has_answers`, set once a row has an answer; `_resolved`, set when it is known
    whether the refusals concern all rows.
    """

    def __init__(self, finish: Callable[[RefusedRow], None], *, has_answers: bool) -> None:
        """
        Args:
            finish: records a row as failed, since the refusals concern only some rows.
            has_answers: a row had an answer in an earlier run.
        """
        self._finish = finish
        self._has_answers = has_answers
        self._held: list[RefusedRow] = []
        self._resolved = anyio.Event()

    def hold(self, refused: RefusedRow) -> None:
        """Hold a refused row back."""
        self._held.append(refused)

    @property
    def names_all_rows(self) -> bool:
        """Whether a reply that is held back is about the key, an endpoint or a setting, and no later answer shows that
        it concerned one row only."""
        return any(isinstance(refused.row.refused, BatchRefused) for refused in self._held)

    def answered(self, sent_at_s: float) -> None:
        """Take note that a row has an answer, whose last request was sent at this loop time."""
        self._has_answers = True
        if self._held and sent_at_s >= self._held[0].sent_at_s:
            self.finish()

    @property
    def in_doubt(self) -> bool:
        """Whether so many rows were refused, with no answer to a row sent later, that it may concern all rows.

        Before the first answer one refusal is enough. While in doubt, no more rows are admitted: those in flight
        decide.
        """
        return len(self._held) >= (REFUSALS_IN_A_ROW if self._has_answers else 1)

    async def resolved(self) -> None:
        """Wait until there is no doubt."""
        while self.in_doubt:
            self._resolved = anyio.Event()
            await self._resolved.wait()

    def finish(self) -> None:
        """Record the rows as failed: the refusals concerned only them."""
        held, self._held = self._held, []
        for refused in held:
            self._finish(refused)
        self._resolved.set()

    def give_up(self) -> str:
        """Forget the rows, which will be asked again; return why the batch stops."""
        number, refusal = len(self._held), self._held[-1].row.refused
        rows = "the first row was" if number == 1 else f"{number} rows in a row were"
        self._held.clear()
        return str(refusal) if isinstance(refusal, BatchRefused) else f"{rows} refused: {refusal}"
