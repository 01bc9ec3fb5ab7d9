"""Parses waiting times that services write in headers and messages."""

from __future__ import annotations

import re

__all__ = ["parse_reset", "wait_in_words"]

_RESET = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_PIECE = re.compile(
    r"\s*(?:,|and)?\s*(\d+(?:\.\d+)?|an?|one)\s*"
    r"(milliseconds?|millis|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)(?![a-z])",
    re.IGNORECASE,
)
_WAIT = re.compile(
    r"(?:try(?:ing)? again|retry(?:ing)?|wait|resets?|available)\b[^.\d]{0,40}?"
    r"(?=\d|\b(?:an?|one) (?:second|minute|hour))",
    re.IGNORECASE,
)


def parse_reset(text: str | None) -> float | None:
    """Return the seconds in `1s`, `6m0s`, `20ms`, `1d2h` or a plain number of seconds; None for anything else."""
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        match = _RESET.fullmatch(text.strip())
        if match is None or not any(match.groups()):
            return None
        numbers = (float(group or 0) for group in match.groups())
        return sum(number * _UNITS_S[unit] for number, unit in zip(numbers, ("d", "h", "m", "s", "ms"), strict=True))
    return number if 0 <= number < 86_400 else None


def wait_in_words(message: str) -> float | None:
    """Return the seconds in "try again in 6m0s", "retry after 45 seconds", "wait 2 minutes and 5 s"; None if there are
    none."""
    asked = _WAIT.search(message)
    if asked is None:
        return None
    found, place = None, asked.end()
    while (piece := _PIECE.match(message, place)) is not None:
        unit = piece[2].lower()
        short = "ms" if unit.startswith(("milli", "ms")) else unit[0]
        found = (found or 0.0) + (1.0 if piece[1][0].isalpha() else float(piece[1])) * _UNITS_S[short]
        place = piece.end()
    return found
