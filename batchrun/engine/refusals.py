"""Refused rows: each is held back until it is known whether the refusals concern all rows, or only these."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import anyio

from batchrun.engine.row import RowRun
from batchrun.errors import BatchRefused
from batchrun.records import Failed

__all__ = ["Answers", "Refusals", "RefusedRow"]

REFUSALS_IN_A_ROW = 5
"""Refused rows without an answer between them, after which a refusal concerns all rows."""
LOOK_EVERY_S = 0.1


class RefusedRow(NamedTuple):
    """A refused row that is held back.

    Attributes:
        sent_at_s: loop time of its last request.
    """

    row: RowRun
    outcome: Failed
    fingerprint: str
    sent_at_s: float


class Answers:
    """The answers of engines that use the same service: what an answer shows of a refusal, it shows to all of them.

    Mutable state: `has_any`, set once a row has an answer; `holding`, the refusals that hold rows back; `deciding`, the
    number of engines that have no rows left, and wait for an answer of another one.
    """

    def __init__(self, engines: Callable[[], int] | None = None) -> None:
        """
        Args:
            engines: returns the number of engines that have rows, or will have; None for a single one.
        """
        self._engines = engines
        self.has_any = False
        self.holding: set[Refusals] = set()
        self.deciding = 0

    @property
    def may_come(self) -> bool:
        """Whether an engine that does not wait itself has rows."""
        return self._engines is not None and self._engines() > self.deciding

    def came(self, sent_at_s: float) -> None:
        """Take note that a row has an answer, whose last request was sent at this loop time."""
        self.has_any = True
        if self.holding:
            for refusals in list(self.holding):
                refusals.answered(sent_at_s)


class Refusals:
    """The rows of an engine that were refused since the last answer.

    Attributes:
        answers: of all engines.

    Mutable state: `_held`, those rows; `_resolved`, set when it is known whether the refusals concern all rows.
    """

    def __init__(self, finish: Callable[[RefusedRow], None], answers: Answers, *, has_answers: bool) -> None:
        """
        Args:
            finish: records a row as failed, since the refusals concern only some rows.
            has_answers: a row had an answer in an earlier run.
        """
        self._finish = finish
        self.answers = answers
        self.answers.has_any |= has_answers
        self._held: list[RefusedRow] = []
        self._resolved = anyio.Event()

    def hold(self, refused: RefusedRow) -> None:
        """Hold a refused row back."""
        self._held.append(refused)
        self.answers.holding.add(self)

    @property
    def names_all_rows(self) -> bool:
        """Whether a reply that is held back is about the key, an endpoint or a setting, and no later answer shows that
        it concerned one row only."""
        return any(isinstance(refused.row.refused, BatchRefused) for refused in self._held)

    def answered(self, sent_at_s: float) -> None:
        """Take note that a row has an answer, whose last request was sent at this loop time."""
        if self._held and sent_at_s >= self._held[0].sent_at_s:
            self.finish()

    @property
    def in_doubt(self) -> bool:
        """Whether so many rows were refused, with no answer to a row sent later, that it may concern all rows.

        Before the first answer one refusal is enough. While in doubt, no more rows are admitted: those in flight
        decide.
        """
        return len(self._held) >= (REFUSALS_IN_A_ROW if self.answers.has_any else 1)

    async def resolved(self) -> None:
        """Wait until there is no doubt."""
        while self.in_doubt:
            self._resolved = anyio.Event()
            await self._resolved.wait()

    async def decided(self, stopped: anyio.Event) -> None:
        """Wait, when the engine has no rows left, until an answer of another one shows that the refusals concern only
        these rows, or until none can come."""
        self.answers.deciding += 1
        while self.names_all_rows and self.answers.may_come and not stopped.is_set():
            await anyio.sleep(LOOK_EVERY_S)
        self.answers.deciding -= 1

    def finish(self) -> None:
        """Record the rows as failed: the refusals concerned only them."""
        self.answers.holding.discard(self)
        held, self._held = self._held, []
        for refused in held:
            self._finish(refused)
        self._resolved.set()

    def give_up(self) -> str:
        """Forget the rows, which will be asked again; return why the batch stops."""
        number, refusal = len(self._held), self._held[-1].row.refused
        rows = "the first row was" if number == 1 else f"{number} rows in a row were"
        self.answers.holding.discard(self)
        self._held.clear()
        return str(refusal) if isinstance(refusal, BatchRefused) else f"{rows} refused: {refusal}"
