"""The error tree.

BatchrunError
├── InputError              the user's input: a table, a template, an option, a job file         exit 2
├── OutputError             an output, journal or store that cannot be written or read           exit 2
├── JournalMismatch         this output belongs to another job; the message names the changes    exit 2
├── OutputHeld              another batch is writing this output                                 exit 6
├── GradingStopped          the batch of a grader ended early; exits as that batch       exit 4, 5, 130
└── ServiceFault            a service did not answer as requested; one of two branches:
    ├── TransientFault      the same request may succeed later: retried
    │   ├── RateLimited       429, or a run that failed with `rate_limit_exceeded`
    │   ├── Unavailable       no connection or reply, 502 to 504, a page in its place, a model that is still loading
    │   ├── ServerFault       408, 409, any other 5xx, or a run that failed with `server_error`
    │   ├── ConnectionLost    the connection broke before the answer was complete
    │   ├── Silence           no byte within the deadline
    │   ├── Shortage          this machine has no file descriptor left for another connection
    │   └── RunLost           the service does not know a run that the journal names
    └── PermanentFault      the same request will fail again: the row fails
        ├── Refused           403, or 404 for an object: concerns this row, or all rows; the engine decides
        └── BatchRefused      every row would fail the same way: the batch stops                   exit 5

`Deferred` is not an error and not in this tree: a service raises it to end a row's task until its reply is there.

A failed row is not an exception but a value, `batchrun.records.Failed`. Any exception outside this tree is a bug, and
the process exits with 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchrun.token_usage import Usage

__all__ = [
    "NEVER_TRIED",
    "BatchRefused",
    "BatchrunError",
    "ConnectionLost",
    "Deferred",
    "GradingStopped",
    "InputError",
    "JournalMismatch",
    "OutputError",
    "OutputHeld",
    "PermanentFault",
    "RateLimited",
    "Refused",
    "RunLost",
    "ServerFault",
    "ServiceFault",
    "Shortage",
    "Silence",
    "TransientFault",
    "Unavailable",
    "lines_of",
    "together",
    "unwrapped",
]


class BatchrunError(Exception):
    """Base of all errors that batchrun raises on purpose. `str(error)` is one line for a person.

    Attributes:
        exit_code: exit code of a command that ends with the error.
        answers: the output file or journal with the answers so far; None if there are none.

    Examples:
        >>> import batchrun
        >>> try:
        ...     batchrun.run(["1 + 1"], model="tutor", temperature=3)
        ... except batchrun.BatchrunError as exc:
        ...     print(type(exc).__name__, exc.exit_code)
        InputError 2
    """

    exit_code = 1
    answers: Path | None = None


class InputError(BatchrunError):
    """The user's input cannot be used. The message states where (file, physical line, column), what was expected and
    what to do.

    Examples:
        >>> import batchrun
        >>> try:
        ...     batchrun.run(["1 + 1"], promt="{{ prompt }}")
        ... except batchrun.InputError as exc:
        ...     print(exc)
        unknown option 'promt'; did you mean 'prompt'?
    """

    exit_code = 2


class OutputError(BatchrunError):
    """An output file, journal or store cannot be written or read (permissions, disk full, another program's file).

    Examples:
        >>> import batchrun, pathlib
        >>> pathlib.Path("taken.csv").mkdir()
        >>> try:
        ...     batchrun.run(["1 + 1"], model="tutor", output="taken.csv")
        ... except batchrun.OutputError as exc:
        ...     print(exc)
        taken.csv: is a folder; expected an output file
    """

    exit_code = 2


class JournalMismatch(BatchrunError):
    """The journal of this output was written by another job; the message names the changes.

    Examples:
        >>> import batchrun
        >>> answers = batchrun.run(["1 + 1"], model="tutor", output="a.csv")
        >>> try:
        ...     batchrun.run(["1 + 1"], model="tutor", output="a.csv", temperature=0.5)
        ... except batchrun.JournalMismatch as exc:
        ...     print(exc)  # doctest: +ELLIPSIS
        a.csv.journal belongs to a batch that differs: temperature was None and is 0.5. ...
    """

    exit_code = 2


class OutputHeld(BatchrunError):
    """Another batch is writing this output.

    Examples:
        >>> import batchrun, filelock
        >>> with filelock.FileLock("a.csv.lock"):  # as a batch holds it
        ...     try:
        ...         batchrun.run(["1 + 1"], model="tutor", output="a.csv")
        ...     except batchrun.OutputHeld as exc:
        ...         print(exc)  # doctest: +ELLIPSIS
        another batch is writing this output (lock: a.csv.lock); ...
    """

    exit_code = 6


class GradingStopped(BatchrunError):
    """The batch of a grader ended early: its budget is spent, it was refused or interrupted.

    Attributes:
        exit_code: exit code of that batch.

    Examples:
        >>> import batchrun, pathlib
        >>> job = 'model = "m"\\nbase_url = "http://127.0.0.1:9/v1"\\nmax_outage = 0.1'  # no service listens there
        >>> size = pathlib.Path("grader.toml").write_text(job)
        >>> table = [{"question": "1 + 1", "truth": "2", "response": "two"}]
        >>> try:
        ...     batchrun.score(table, "model-graded", target="truth", grader="grader.toml")
        ... except batchrun.GradingStopped as exc:
        ...     print(exc)  # doctest: +ELLIPSIS
        grader grader stopped: the service has been unavailable for 0.1 s ...
    """

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class ServiceFault(BatchrunError):
    """A service did not answer as requested.

    Attributes:
        error_type: short stable name for the `error_type` column, such as `rate_limit_exceeded`.
        status_code: HTTP status, or None if there was no response or the fault came in the body of a 200.
        retry_after_s: seconds that the service asks us to wait, or None.
        run_ended: a run was created and has failed, so that another attempt needs another run and another
            idempotency key. False: the same key asks for the same run.
        usage: tokens that the failed run took nevertheless, None if unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        error_type: str,
        status_code: int | None = None,
        retry_after_s: float | None = None,
        run_ended: bool = False,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.status_code = status_code
        self.retry_after_s = retry_after_s
        self.run_ended = run_ended
        self.usage = usage

    @property
    def unseen(self) -> bool:
        """Whether the service may have acted on the request, and its answer was not seen: another attempt may create a
        second run if the service ignores `Idempotency-Key`."""
        return False


class TransientFault(ServiceFault):
    """The same request may succeed later."""


class RateLimited(TransientFault):
    """The service asked for less: HTTP 429, or a run failed with `rate_limit_exceeded`."""


class Unavailable(TransientFault):
    """The service cannot answer now: no connection, or one that closed without a byte; HTTP 502, 503 or 504; a page in
    place of a reply; a model that is still loading.

    Attributes:
        connected: False if nothing showed that the service is there, so that the address may be wrong.
        sent: the request was sent nevertheless.
    """

    connected = True
    sent = False

    @property
    def unseen(self) -> bool:
        """Whether the service may have acted: a gateway also replies 502 or 504 if it lost the service's reply."""
        return self.sent or self.status_code in (502, 504)


class ServerFault(TransientFault):
    """HTTP 408, 409, 5xx but for 502 to 504, or a run failed with `server_error`."""

    @property
    def unseen(self) -> bool:
        """Whether the service may have acted: a gateway that stopped waiting, or sent a page in place of the reply,
        shows nothing about the service."""
        return self.status_code in (200, 408, 504)


class ConnectionLost(TransientFault):
    """The connection closed before the answer was complete."""

    @property
    def unseen(self) -> bool:
        """Always True."""
        return True


class Silence(TransientFault):
    """No byte arrived within the deadline."""

    @property
    def unseen(self) -> bool:
        """Always True."""
        return True


class Shortage(TransientFault):
    """This machine has no file descriptor left for another connection; nothing was sent."""


class RunLost(TransientFault):
    """The service does not know a run that the journal names: it has to be created again."""


NEVER_TRIED = frozenset({"batch_expired", "batch_cancelled", "batch_failed"})
"""Error types of a request that the service accepted and did not try: they count as no attempt."""


class Deferred(Exception):
    """The request is recorded, and its reply comes later: the row's task ends without an outcome, and a later pass over
    the rows continues the same attempt."""


class PermanentFault(ServiceFault):
    """The same request would fail again; the row fails."""


class Refused(PermanentFault):
    """HTTP 403, or 404 for an object: a flagged input fails its row, a lost permission all rows. The engine decides
    which, from the outcomes of other rows."""


class BatchRefused(PermanentFault):
    """Every row would fail the same way (key, permission, quota, unknown model): the batch stops.

    Attributes:
        setting: the model parameter that is refused, "" if the service does not name it; None if it refuses something
            else. If only this row has it, only the row fails.
        may_be_odd: the fault is a single reply, which a gateway or one of several servers may have sent by mistake. If
            rows have been answered, several such replies in a row stop the batch.

    Examples:
        >>> import batchrun
        >>> try:  # no service listens on this port
        ...     batchrun.run(["1 + 1"], model="m", base_url="http://127.0.0.1:9/v1", max_outage=0.1)
        ... except batchrun.BatchRefused as exc:
        ...     print(exc)  # doctest: +ELLIPSIS
        the service has been unavailable for 0.1 s ...
    """

    exit_code = 5
    setting: str | None = None
    may_be_odd: bool = False


def together(texts: Iterable[str]) -> InputError:
    """Return one error of several texts, each once: the first one, with the others as notes (PEP 678)."""
    first, *others = dict.fromkeys(texts)
    error = InputError(first)
    for text in others:
        error.add_note(text)
    return error


def lines_of(error: BatchrunError) -> tuple[str, ...]:
    """Return the text of an error and its notes."""
    return (str(error), *getattr(error, "__notes__", ()))


@contextmanager
def unwrapped() -> Iterator[None]:
    """Raise errors bare, out of the exception group of a task group inside the context.

    A single error of any kind is raised as it is, so that `except` finds what a callback raised. Of several errors of
    this tree, the first is raised; a group of several with a bug among them is raised as it is.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        leaves = list(_leaves(group))
        if len(leaves) > 1 and not all(isinstance(each, BatchrunError) for each in leaves):
            raise
        raise leaves[0] from leaves[0].__cause__


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
