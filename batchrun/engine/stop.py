"""The reason why a batch ends before its last row."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BUDGET_REACHED", "Stop"]

BUDGET_REACHED = 4
"""Exit code of a batch whose budget does not cover the next row."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a batch ended before its last row.

    Attributes:
        reason: one line for a person.
        exit_code: exit code of the process.
    """

    reason: str
    exit_code: int
