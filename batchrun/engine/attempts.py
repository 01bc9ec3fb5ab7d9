"""The attempts at one row: idempotency keys, generations, and which attempt follows a fault. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from batchrun.engine.retry import GiveUp, RetryAfter, RetryPolicy
from batchrun.errors import PermanentFault, RateLimited, RunLost, ServiceFault
from batchrun.job.fingerprint import digest
from batchrun.journal.service_batches import is_custom_id
from batchrun.records import Attempt, RunEnd

__all__ = ["Attempts", "ThreadGone", "first_attempt", "names_lost"]


class ThreadGone(Exception):
    """The service no longer has the row's thread: its turns have to run again."""


class Attempts:
    """The attempts at one row in this run of the batch.

    An attempt under the same idempotency key asks for the same run: a service that honours the key answers with the
    run that it may have made already. Only when a run has ended does the next attempt get a new generation, and with
    it a new key.

    Mutable state: `current`, the attempt at hand; `is_repeat`, whether it may make a run a second time; `started`, the
    number of the last attempt in the journal; `is_begun`, whether the current attempt is in the journal already;
    `has_unwritten_ids`, whether the ids of the current attempt still have to be written there; `_counted`, failed
    attempts at this run that the policy counts.
    """

    __slots__ = (
        "_counted",
        "_earlier_run_id",
        "_key_start",
        "_policy",
        "current",
        "has_unwritten_ids",
        "is_begun",
        "is_repeat",
        "started",
    )

    def __init__(
        self,
        row_key: str,
        batch_id: str,
        policy: RetryPolicy,
        last: Attempt | None,
        end: RunEnd | None,
        *,
        is_deferred: bool = False,
        counted: int = 0,
    ) -> None:
        """
        Args:
            last: the last attempt of an earlier run of the batch, None if there was none.
            end: the row's last run that ended, None if none has.
            is_deferred: `last` was deferred, and is continued under its own number.
            counted: failed attempts at this run so far that the policy counts.
        """
        self._key_start = _key_start(batch_id, row_key)
        self._policy = policy
        self._counted = counted
        self.is_begun = is_deferred
        self.started = last.number - is_deferred if last is not None else 0
        self.is_repeat = False
        self.has_unwritten_ids = False
        self.current = last if last is not None and is_deferred else self._first(last, end)
        self._earlier_run_id = self.current.run_id

    def _first(self, last: Attempt | None, end: RunEnd | None) -> Attempt:
        if last is None:
            return Attempt(1, 1, self._key(1))
        if last.run_ended or (end is not None and end.attempt >= last.number and not end.reply.calls):
            return self._another_run(last)
        if end is not None and end.reply.calls and end.run_id == last.run_id:
            # The run has ended with calls of functions; the next attempt answers them.
            return replace(last, number=last.number + 1, run_id=None, unseen=True)
        self.is_repeat = last.run_id is None and last.unseen
        return replace(last, number=last.number + 1, unseen=True)

    @property
    def follows_earlier_run(self) -> bool:
        """The current attempt follows the run that an earlier run of the batch left."""
        return self.current.run_id is not None and self.current.run_id == self._earlier_run_id

    # -- the current attempt --------------------------------------------------------------------------------

    def start(self) -> None:
        """Record that the current attempt is in the journal and may be sent."""
        self.started = self.current.number
        self.is_begun = False

    def set_ids(self, thread_id: str | None, run_id: str | None, *, with_reply: bool) -> None:
        """Set the ids that the service gave.

        Args:
            with_reply: the ids came with the whole reply, and are written to the journal together with it.
        """
        now = self.current  # `dataclasses.replace` takes three times as long
        self.current = Attempt(now.number, now.generation, now.key, thread_id, run_id, now.run_ended, now.unseen)
        self.has_unwritten_ids = with_reply

    def take_unwritten_ids(self) -> bool:
        """Return whether the ids of the current attempt have to be written now; from then on they are not."""
        unwritten, self.has_unwritten_ids = self.has_unwritten_ids, False
        return unwritten

    @property
    def may_have_cost(self) -> bool:
        """Whether the current attempt may have cost something: it has made a run, or its answer was not seen."""
        return self.started == self.current.number and (self.current.run_id is not None or self.current.unseen)

    def cost_is_known(self, fault: ServiceFault) -> bool:
        """Return whether the current attempt, which ended with `fault`, has cost nothing, or what its usage says."""
        has_usage = fault.usage is not None and fault.usage.is_known
        is_later = is_custom_id(self.current.run_id)  # the Batch API bills answers only
        return has_usage or is_later or isinstance(fault, RateLimited) or not self.may_have_cost

    def leave_run(self) -> None:
        """Forget the current run, which ended well: nothing is left to follow or to cancel."""
        self.current = replace(self.current, run_id=None)

    # -- the next attempt -----------------------------------------------------------------------------------

    def fail(self, fault: ServiceFault) -> None:
        """Note what `fault` shows about the current attempt: whether the run has ended, and was it seen."""
        if isinstance(fault, PermanentFault) and self.current.run_id is None:
            # Refused for good: a service that stores its replies by key would refuse the key again.
            fault.run_ended = True
        self.current = replace(self.current, run_ended=self.current.run_ended or fault.run_ended, unseen=fault.unseen)

    def decide(self, fault: ServiceFault, random_unit: float, *, ill: bool) -> RetryAfter | GiveUp:
        """Return whether to retry after `fault`, and when.

        Args:
            random_unit: uniform in [0, 1).
            ill: the service is at fault, not the row, so that the attempt does not count.
        """
        self._counted += not ill
        return self._policy.decide(fault, max(self._counted, 1), random_unit, ill=ill)

    def retry(self, fault: ServiceFault) -> bool:
        """Move to the attempt after `fault`; return whether it makes another run."""
        attempt = self.current
        lost = isinstance(fault, RunLost)
        self.is_repeat = lost or (not attempt.run_ended and attempt.run_id is None and fault.unseen)
        if attempt.run_ended:
            self.current = self._another_run(attempt)
            return True
        # A lost run cannot be looked up, but the key may still identify it.
        run_id = None if lost else attempt.run_id
        self.current = replace(attempt, number=attempt.number + 1, run_id=run_id, unseen=True)
        return False

    def next_run(self) -> None:
        """Move to the first attempt at the row's next run."""
        self._counted = 0
        self.is_repeat = False
        self.current = self._another_run(self.current)

    def _another_run(self, last: Attempt) -> Attempt:
        generation = last.generation + 1
        return Attempt(last.number + 1, generation, self._key(generation))

    def _key(self, generation: int) -> str:
        return f"{self._key_start}{generation}"


def first_attempt(batch_id: str, row_key: str) -> Attempt:
    """Return the first attempt at a row."""
    return Attempt(1, 1, f"{_key_start(batch_id, row_key)}1")


def _key_start(batch_id: str, row_key: str) -> str:
    plain = row_key if row_key.isalnum() and row_key.isascii() and len(row_key) <= 40 else digest(row_key)
    return f"{batch_id}-{plain}-"


def names_lost(fault: ServiceFault, ids: Sequence[str | None]) -> bool:
    """Return whether a fault reports that the service no longer knows an object with one of these ids."""
    if fault.status_code != 404 and fault.error_type != "previous_response_not_found":
        return False
    return any(name is not None and name in str(fault) for name in ids)
