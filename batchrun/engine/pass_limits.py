"""The limits of a pass: rows whose requests are deferred meet no service, so only their number at once is limited."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Final, Literal

import anyio

from batchrun.clock import loop_time
from batchrun.engine.limits import Lease, Limits
from batchrun.engine.stopwatch import Stopwatch
from batchrun.errors import NEVER_TRIED, ServiceFault
from batchrun.token_usage import Usage

__all__ = ["ROWS_AT_ONCE", "PassLimits"]

ROWS_AT_ONCE: Final = 100
"""Rows in memory at once during a pass."""


class _Untimed(Stopwatch):
    """Measures the seconds of a row without a time limit: no cancel scope is entered."""

    def __init__(self, never_cancelled: anyio.CancelScope) -> None:
        super().__init__(math.inf)
        self._never_cancelled = never_cancelled

    def __enter__(self) -> anyio.CancelScope:
        self._lap_started_s = loop_time()
        return self._never_cancelled

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        self.elapsed_s += loop_time() - self._lap_started_s
        return False


class PassLimits(Limits):
    """Limits for rows whose requests are deferred.

    A fault that such a row meets is hours old: it shows nothing about the service now, and holds no other row back.
    Requests that are sent during a pass, such as uploads, pass the limits of the HTTP client.

    Mutable state: `_never_cancelled`, a scope that no row enters; None before the first row.
    """

    def __init__(self) -> None:
        super().__init__(concurrency=ROWS_AT_ONCE, row_timeout_s=math.inf)
        self._never_cancelled: anyio.CancelScope | None = None

    async def admit(self, prompt_chars: int) -> Lease:
        """Wait for a slot."""
        lease = await super().admit(prompt_chars)
        lease.prepaid = False
        if self._never_cancelled is None:  # it can only be made while an event loop runs
            self._never_cancelled = anyio.CancelScope()
        lease.stopwatch = _Untimed(self._never_cancelled)
        return lease

    async def readmit(self, lease: Lease, usage: Usage, prompt_chars: int) -> None:
        """Do nothing: no tokens are reserved."""

    def answered(self, lease: Lease) -> None:
        """Do nothing: the answer is as old as its request."""

    def failed(self, lease: Lease | None, fault: ServiceFault) -> str | None:
        """Count a fault of a request of the batch itself, which was sent now; no fault of a row stops the batch."""
        return super().failed(None, fault) if lease is None else None

    def is_ill(self, lease: Lease, fault: ServiceFault) -> bool:  # noqa: ARG002 - the signature of Limits
        """Return whether the service did not try the request."""
        return fault.error_type in NEVER_TRIED
