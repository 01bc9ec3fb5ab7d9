"""Measures the time of a row in flight, and cancels the row at its time limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import anyio

from batchrun.clock import loop_time

__all__ = ["Stopwatch"]

OVERSLEPT_S = 0.5


class Stopwatch:
    """Measures the seconds that a row is in flight, without its waits for limits, and cancels the row at a time limit.

    Mutable state: `elapsed_s` over finished laps; the cancel scope and the start of the current lap; `overslept`: the
    last lap ended long after its deadline, so this process was suspended, and the row's own time is unknown.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.elapsed_s = 0.0
        self.overslept = False
        self._scope: anyio.CancelScope | None = None
        self._lap_started_s = 0.0

    def running(self) -> Stopwatch:
        """Count the time spent in `with stopwatch.running() as scope`; cancel the block at the time limit
        (`scope.cancelled_caught`)."""
        return self

    def __enter__(self) -> anyio.CancelScope:
        self._lap_started_s = now_s = loop_time()
        scope = anyio.CancelScope(deadline=now_s + max(0.0, self.limit_s - self.elapsed_s))
        scope.__enter__()
        self._scope = scope
        return scope

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        scope, self._scope = self._scope, None
        assert scope is not None
        now_s = loop_time()
        self.overslept = now_s - scope.deadline > OVERSLEPT_S
        self.elapsed_s = 0.0 if self.overslept else self.elapsed_s + now_s - self._lap_started_s
        return scope.__exit__(kind, error, trace)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time spent inside. Outside of `running` nothing counts anyway."""
        if self._scope is None:
            yield
            return
        self._pause()
        try:
            yield
        finally:
            self._resume()

    def _pause(self) -> None:
        assert self._scope is not None
        self._scope.deadline = float("inf")
        self.elapsed_s += loop_time() - self._lap_started_s

    def _resume(self) -> None:
        assert self._scope is not None
        self._lap_started_s = loop_time()
        self._scope.deadline = self._lap_started_s + max(0.0, self.limit_s - self.elapsed_s)
