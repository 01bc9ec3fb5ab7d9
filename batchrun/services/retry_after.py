"""The time that a reply's headers ask the client to wait."""

from __future__ import annotations

import math
from collections.abc import Mapping

__all__ = ["parse_retry_after"]


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds in `retry-after-ms` or `Retry-After` (a number or a date, RFC 9110 §10.2.3).

    None if both headers are missing or cannot be read.
    """
    milliseconds = headers.get("retry-after-ms")
    if milliseconds is not None:
        try:
            return _non_negative(float(milliseconds) / 1_000)
        except ValueError:
            pass
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return _non_negative(float(value))
    except ValueError:
        return _seconds_until(value, headers.get("date"))


def _non_negative(seconds: float) -> float | None:
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _seconds_until(date: str, server_date: str | None) -> float | None:
    """Return the seconds between the server's own clock and `date`, so that a wrong local clock does no harm."""
    from email.utils import parsedate_to_datetime

    try:
        until = parsedate_to_datetime(date)
        now = parsedate_to_datetime(server_date) if server_date else None
        return None if now is None else max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError, OverflowError):  # TypeError: only one of the two dates has a time zone
        return None
