"""The exit codes of every command: the only list, from which the help and docs/reference/exit-codes.md are made.

The errors of `batchrun.errors` and the stops of a batch carry the same numbers; a test compares them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["CANCEL", "CLEANUP", "COMPARE", "EXIT_CODES", "SCORE", "ExitCode"]


class ExitCode(NamedTuple):
    """An exit code.

    Attributes:
        code: the number; several numbers are separated by commas.
        meaning: the state in which the command ended, for the help.
        detail: more about the meaning, for the page; may be empty.
        remedy: what to do after a scheduled run.
    """

    code: str
    meaning: str
    detail: str
    remedy: str

    def says(self, meaning: str, detail: str = "") -> ExitCode:
        """Return the code with the meaning that it has in another command."""
        return self._replace(meaning=meaning, detail=detail)


_SUCCESS = ExitCode("0", "every row completed", "", "nothing")
_BUG = ExitCode("1", "internal error", "a bug", "report it")
_INVALID = ExitCode(
    "2",
    "invalid usage, input or settings",
    "also a full disk or a folder that cannot be written",
    "correct the job: the message names the problem",
)
_FAILED_ROWS = ExitCode(
    "3",
    "finished with failed rows",
    "or with incomplete ones; or stopped because more than half of the rows failed, or the input changed meanwhile",
    "look at the failed rows; with `retry_failed` the next run retries them",
)
_BUDGET = ExitCode("4", "budget reached", "", "raise the budget, and the next run continues")
_REFUSED = ExitCode(
    "5",
    "the service refused the batch (authentication, quota, unknown model) or could not be reached",
    "",
    "check the key, the quota, the model and the URL; a service that was only unavailable answers the next run",
)
_HELD = ExitCode("6", "another batch is writing this output", "", "nothing: the last batch was still running")
_BAR = ExitCode("7", "score below the bar", "", "look at the rows that are wrong")
_SUBMITTED = ExitCode(
    "8",
    "submitted to the Batch API, with --no-wait",
    "requests are at the service and answers are still missing; no fault: nothing was scored, and the monitor was sent "
    "neither a success nor a failure",
    "nothing: the same command collects the answers, now or at its next scheduled run",
)
_INTERRUPTED = ExitCode(
    "129, 130, 143", "interrupted", "by SIGHUP, SIGINT, SIGTERM", "the next run continues where this one stopped"
)

EXIT_CODES: Final[tuple[ExitCode, ...]] = (
    _SUCCESS,
    _BUG,
    _INVALID,
    _FAILED_ROWS,
    _BUDGET,
    _REFUSED,
    _HELD,
    _BAR,
    _SUBMITTED,
    _INTERRUPTED,
)
"""The exit codes of `run`."""

COMPARE: Final[tuple[ExitCode, ...]] = (
    _SUCCESS.says("success"),
    _BUG,
    _INVALID,
    _BUDGET.says("budget of a grader reached"),
    _REFUSED.says("a grader's service refused the request or could not be reached"),
    _HELD.says("another process is asking the same grader about the same table"),
    _INTERRUPTED._replace(code="130", detail="by SIGINT"),
)
"""The exit codes of `compare`."""

SCORE: Final[tuple[ExitCode, ...]] = (*COMPARE[:-1], _BAR, COMPARE[-1])
"""The exit codes of `score`."""

CANCEL: Final[tuple[ExitCode, ...]] = (
    _SUCCESS.says("cancelled", "or nothing was open; the answers that came before are in the output"),
    _BUG,
    _INVALID.says("invalid usage or settings"),
    _FAILED_ROWS.says("a batch at the service could not be cancelled"),
    _REFUSED.says("the service refused the request or could not be reached"),
    _HELD.says("a batch is writing this output"),
    _SUBMITTED.says("the service is still cancelling; the same command collects what is done"),
    _INTERRUPTED._replace(code="130", detail="by SIGINT"),
)
"""The exit codes of `cancel`."""

CLEANUP: Final[tuple[ExitCode, ...]] = (
    _SUCCESS.says("everything was deleted"),
    _BUG,
    _INVALID.says("invalid usage or settings"),
    _FAILED_ROWS.says("something could not be deleted"),
    _REFUSED.says("the service refused the request or cannot delete objects"),
    _HELD.says("a batch is writing this output"),
    _INTERRUPTED._replace(code="130", detail="by SIGINT"),
)
"""The exit codes of `cleanup`."""
