"""Warnings of a batch, reported at the line that called batchrun."""

from __future__ import annotations

import logging
import sys
import warnings
from dataclasses import dataclass, field

from batchrun.api.parameters import in_python
from batchrun.batch.plan import Plan
from batchrun.batch.run_summary import Summary, summary_lines, warning_lines
from batchrun.batch.waves_ahead import waves_ahead

__all__ = ["Caller"]

logger = logging.getLogger("batchrun")

_BETWEEN = frozenset({"anyio", "asyncio", "batchrun", "contextlib", "pandas"})
"""Packages whose frames may be between the user's line and this module; pandas for `df.pipe(batchrun.run)`."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The line of code that called batchrun.

    The batch may run in another thread, where the stack does not contain that line, so it is found at the call.

    Attributes:
        registry: where Python keeps which warnings of the line's module it has shown.
    """

    file: str
    line: int
    module: str
    registry: dict[str | tuple[str, type[Warning], int], int] = field(repr=False)

    @classmethod
    def here(cls) -> Caller:
        """Return the innermost line of the stack that is outside batchrun."""
        frame = sys._getframe()
        while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
            frame = frame.f_back
        names = frame.f_globals
        registry = names.setdefault("__warningregistry__", {})
        return cls(frame.f_code.co_filename, frame.f_lineno, names.get("__name__", "<unknown>"), registry)

    def warn(self, text: str) -> None:
        """Warn at the caller's line. The text is in the words of the command line."""
        warnings.warn_explicit(in_python(text), RuntimeWarning, self.file, self.line, self.module, self.registry)

    def announce(self, plan: Plan, *, is_chosen: bool) -> None:
        """Show the notices of a batch.

        Args:
            is_chosen: the caller named a model or a script, so that it is not a surprise who answers.
        """
        if plan.destination.why_embedded:
            (logger.info if is_chosen else self.warn)(plan.destination.why_embedded)
        for notice in waves_ahead(plan):
            logger.info(notice)
        as_asked: set[str] = set()
        if plan.selection is not None and not plan.selection.is_short:
            as_asked.add(plan.selection.note)
        for notice in plan.notices:
            (logger.info if notice in as_asked else self.warn)(notice)

    def report(self, summary: Summary) -> None:
        """Log how a batch ended, and warn of everything that its table of answers lacks."""
        for line in summary_lines(summary):
            logger.info(in_python(line))
        for text in warning_lines(summary):
            self.warn(text)
