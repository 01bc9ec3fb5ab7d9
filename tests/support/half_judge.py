"""A scorer that judges numbers alone."""

from __future__ import annotations

__all__ = ["judge"]


def judge(answer: str, target: str) -> bool | None:
    """Return whether a number is the target; None for any other answer."""
    return answer == target if answer.isdecimal() else None
