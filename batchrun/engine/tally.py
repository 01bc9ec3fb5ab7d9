"""The counts of a running batch, and the snapshot that displays and tests read."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import nsmallest

from batchrun.engine.limits import LimitsStatistics
from batchrun.journal import Carried
from batchrun.records import Completed, Outcome
from batchrun.token_usage import Usage

__all__ = ["EngineStatistics", "Flight", "Tally"]


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """A snapshot of a running batch.

    Attributes:
        finished_before: rows that an earlier run of the batch had finished.
        asked_alike: rows that get the answer of another row with the same prompt.
        from_cache: rows that got the answer of another batch.
        retrying: rows in flight that wait for their next attempt.
        faults: attempts that failed.
        created_again: requests repeated although the service may have acted on the first, and runs created again
            because the service no longer knew the first.
        prompt_tokens, completion_tokens, cost_usd: totals of this run of the batch; None for an unknown cost.
        stopping: why no more rows are admitted, None while they are.
        oldest: (row_key, loop time in seconds of its admission, its current step) of the rows longest in flight.
        not_deleted: objects of ended rows (such as threads) that should have been deleted and were not.
        deferred: rows whose request is recorded and whose reply comes later. They count as `in_flight` too.
        tool_calls, tool_errors: calls of the user's functions, and how many of them failed.
    """

    completed: int
    incomplete: int
    failed: int
    finished_before: int
    in_flight: int
    retrying: int
    faults: int
    created_again: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    limits: LimitsStatistics
    stopping: str | None
    oldest: tuple[tuple[str, float, str], ...]
    not_deleted: int = 0
    tool_calls: int = 0
    tool_errors: int = 0
    asked_alike: int = 0
    from_cache: int = 0
    deferred: int = 0


@dataclass(slots=True)
class Flight:
    """A row in flight.

    Attributes:
        since_s: loop time of its admission.
        doing: a description of its current step, such as `waits for run_1 to end`.
    """

    since_s: float
    doing: str = "waits for the service's first word"


@dataclass(slots=True)
class Tally:
    """The counts of one run of a batch; changed by the engine and its rows only.

    Attributes:
        has_passed: a pass has ended, and `deferred` has the rows that it deferred or met as deferred.
    """

    completed: int = 0
    incomplete: int = 0
    failed: int = 0
    finished_before: int = 0
    retrying: int = 0
    faults: int = 0
    created_again: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    not_deleted: int = 0
    tool_calls: int = 0
    tool_errors: int = 0
    asked_alike: int = 0
    from_cache: int = 0
    deferred: int = 0
    has_passed: bool = False
    in_flight: dict[str, Flight] = field(default_factory=dict)

    def continue_deferred(self) -> None:
        """Count a deferred row that continues; in the first pass it was deferred by an earlier run, and is new."""
        self.deferred -= self.has_passed

    def count(self, outcome: Outcome, carried: Carried | None = None) -> None:
        """Count a row that ended.

        Args:
            carried: the part of its usage that an earlier run of the batch has counted.
        """
        if not isinstance(outcome, Completed):
            self.failed += 1
        elif outcome.status == "incomplete":
            self.incomplete += 1
        else:
            self.completed += 1
        earlier, earlier_usd = (Usage(), 0.0) if carried is None else (carried.usage, carried.cost_usd or 0.0)
        self.prompt_tokens += (outcome.usage.prompt_tokens or 0) - (earlier.prompt_tokens or 0)
        self.completion_tokens += (outcome.usage.completion_tokens or 0) - (earlier.completion_tokens or 0)
        if outcome.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + outcome.cost_usd - earlier_usd

    def note(self, row_key: str, doing: str) -> None:
        """Describe the current step of a row in flight, for displays."""
        flight = self.in_flight.get(row_key)
        if flight is not None:
            flight.doing = doing

    def snapshot(self, limits: LimitsStatistics, stopping: str | None = None) -> EngineStatistics:
        """Return the current counts."""
        oldest = nsmallest(3, self.in_flight.items(), key=lambda item: item[1].since_s)
        return EngineStatistics(
            completed=self.completed,
            incomplete=self.incomplete,
            failed=self.failed,
            finished_before=self.finished_before,
            in_flight=len(self.in_flight) + self.deferred,
            retrying=self.retrying,
            faults=self.faults,
            created_again=self.created_again,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cost_usd=self.cost_usd,
            limits=limits,
            stopping=stopping,
            oldest=tuple((row_key, flight.since_s, flight.doing) for row_key, flight in oldest),
            not_deleted=self.not_deleted,
            tool_calls=self.tool_calls,
            tool_errors=self.tool_errors,
            asked_alike=self.asked_alike,
            from_cache=self.from_cache,
            deferred=self.deferred,
        )
