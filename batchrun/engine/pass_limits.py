"""The limits of a pass: rows whose requests are deferred meet no service, so only their number at once is limited."""

from __future__ import annotations

import math
from typing import Final

from batchrun.engine.limits import NEVER_TRIED, Lease, Limits
from batchrun.errors import ServiceFault
from batchrun.token_usage import Usage

__all__ = ["ROWS_AT_ONCE", "PassLimits"]

ROWS_AT_ONCE: Final = 100
"""Rows in memory at once during a pass."""


class PassLimits(Limits):
    """Limits for rows whose requests are deferred.

    A fault that such a row meets is hours old: it shows nothing about the service now, and holds no other row back.
    Requests that are sent during a pass, such as uploads, pass the limits of the HTTP client.
    """

    def __init__(self) -> None:
        super().__init__(concurrency=ROWS_AT_ONCE, row_timeout_s=math.inf)

    async def admit(self, prompt_chars: int) -> Lease:
        """Wait for a slot."""
        lease = await super().admit(prompt_chars)
        lease.prepaid = False
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
