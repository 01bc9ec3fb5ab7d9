"""The error tree.

BatchrunError
├── InputError              what the user gave: a table, a template, an option, a job file       exit 2
├── OutputError             an output, journal or store that cannot be written or read           exit 2
├── JournalMismatch         this output belongs to another job; says what changed                exit 2
├── OutputHeld              another batch is working on this output                              exit 6
└── ServiceFault            a service said no; one of two branches:
    ├── TransientFault      the same request may succeed later: retried
    │   ├── RateLimited       429, or a run that failed with `rate_limit_exceeded`
    │   ├── ServerFault       408, 409, 5xx, or a run that failed with `server_error`
    │   ├── ConnectionLost    no connection, or it broke
    │   └── Silence           no byte within the deadline
    └── PermanentFault      the same request will fail again: the row fails
        └── BatchRefused      every row would fail the same way: the batch stops                   exit 5

A failed row is not an exception but a value, `batchrun.records.Failed`. Anything outside this tree is
a bug and exits 1.
"""

from __future__ import annotations

__all__ = [
    "BatchRefused",
    "BatchrunError",
    "ConnectionLost",
    "InputError",
    "JournalMismatch",
    "OutputError",
    "OutputHeld",
    "PermanentFault",
    "RateLimited",
    "ServerFault",
    "ServiceFault",
    "Silence",
    "TransientFault",
]


class BatchrunError(Exception):
    """Base of all errors that batchrun raises on purpose. `str(error)` is one line for a person."""

    exit_code = 1


class InputError(BatchrunError):
    """What the user gave cannot be used: says where (file, physical line, column), what was expected, what to do."""

    exit_code = 2


class OutputError(BatchrunError):
    """An output file, journal or store cannot be written or read (permissions, disk full, not ours)."""

    exit_code = 2


class JournalMismatch(BatchrunError):
    """The journal beside this output was written by another job; the message names what changed."""

    exit_code = 2


class OutputHeld(BatchrunError):
    """Another process is working on this output."""

    exit_code = 6


class ServiceFault(BatchrunError):
    """A service did not answer as wanted.

    Attributes:
        error_type: short stable name for the `error_type` column, such as `rate_limit_exceeded`.
        status_code: HTTP status, or None where there was no response (or the fault came in a 200 body).
        retry_after_s: seconds the service asked us to wait, or None.
        request_sent: False where the service certainly did nothing (refused before work), True where it
            may have acted although we saw no answer. Decides whether an idempotency key is kept.
    """

    def __init__(
        self,
        message: str,
        *,
        error_type: str,
        status_code: int | None = None,
        retry_after_s: float | None = None,
        request_sent: bool = False,
    ) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.status_code = status_code
        self.retry_after_s = retry_after_s
        self.request_sent = request_sent


class TransientFault(ServiceFault):
    """The same request may succeed later."""


class RateLimited(TransientFault):
    """The service asked for less: HTTP 429, or a run failed with `rate_limit_exceeded`."""


class ServerFault(TransientFault):
    """HTTP 408, 409, 5xx, or a run failed with `server_error`."""


class ConnectionLost(TransientFault):
    """No connection could be made, or it closed before the answer was whole."""


class Silence(TransientFault):
    """No byte arrived within the deadline."""


class PermanentFault(ServiceFault):
    """The same request would fail again; the row fails."""


class BatchRefused(PermanentFault):
    """Every row would fail the same way (key, permission, quota, unknown model): the batch stops."""

    exit_code = 5
