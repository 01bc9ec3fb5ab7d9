"""Text for people: counts, paths, durations, amounts, and outside text made safe for a terminal."""

from __future__ import annotations

import os
import re
from datetime import datetime
from decimal import Decimal
from pathlib import Path

__all__ = [
    "FREE",
    "SHOWN_USD",
    "clipped",
    "cost_cell",
    "cost_text",
    "dollars",
    "duration",
    "local_time",
    "over_budget_lines",
    "plain_path",
    "rows_text",
    "shortened",
    "shown_output",
    "shown_path",
    "visible",
    "visible_line",
]

SHOWN_USD = 0.00005
"""The least sum in US dollars that a message with four decimals shows."""

_UNSHOWN = re.compile(
    "[\x00-\x08\x0b-\x1f"  # C0, without tab and line feed
    "\x7f-\x9f"  # DEL and C1, which include the one-byte forms of terminal sequences
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # these reorder the text around them
    "\ud800-\udfff]"  # lone surrogates, which no encoding can write
)
"""Characters that a terminal would execute or could not show."""


def rows_text(number: int, kind: str = "") -> str:
    """Return a count such as `1 row`, `2 rows` or `1,000 failed rows`."""
    return counted(number, f"{kind} row" if kind else "row")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is 1: `1 batch`, `2 batches`, `1,000 requests`."""
    plural = f"{noun}es" if noun.endswith("ch") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def plain_path(path: Path) -> str:
    """Return the path without detours such as `inputs/../outputs`, unless `..` follows a symbolic link."""
    plain = os.path.normpath(path)
    return plain if os.path.realpath(plain) == os.path.realpath(path) else str(path)


def shown_path(path: Path) -> str:
    """Return the path without detours, relative to the working directory if it is in that directory."""
    plain = Path(plain_path(path))
    if ".." in plain.parts or not plain.is_relative_to(Path.cwd()):
        return str(plain)
    return str(plain.relative_to(Path.cwd()))


def shown_output(path: Path) -> str:
    """Return `shown_path` of an output that was written: a folder of parts ends with a slash."""
    return shown_path(path) + ("/" if path.is_dir() else "")


def visible(text: str) -> str:
    """Return the text with an escape such as `\\x1b` or `\\u202e` for every character that a terminal would execute.

    Line feeds and tabs are kept. JSON stays valid: its C0 controls are already escaped, and the other characters become
    JSON escapes.
    """
    return _UNSHOWN.sub(_escape, text)


def visible_line(text: str) -> str:
    """Return `visible(text)` on one line: line feeds are escaped too."""
    return visible(text).replace("\n", "\\n")


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x20 else f"\\u{code:04x}"


def shortened(value: object) -> str:
    """Return the repr of a value for a message, cut after 200 characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply; an integer of more than 4,300 digits
        return f"a {type(value).__name__} that is too large to be shown"
    return clipped(text, 200)


def clipped(text: str, limit: int) -> str:
    """Return a text, cut after `limit` characters with an ellipsis if it is longer.

    Examples:
        >>> clipped("Frankfurt", 5), clipped("Paris", 5)
        ('Frank…', 'Paris')
    """
    return text if len(text) <= limit else f"{text[:limit].rstrip()}…"


FREE = "free"
"""The cost of answers of the embedded server, unless the job has a price for its model."""


def local_time(moment: datetime | str) -> str:
    """Return a moment in the time zone of this machine, with its offset: `2026-11-30 14:05:12+01:00`.

    Args:
        moment: if it is text, ISO 8601.
    """
    known = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return known.astimezone().isoformat(sep=" ", timespec="seconds")


def duration(seconds: float | None) -> str:
    """Return a duration such as `1.5 s`, `12 s`, `2:05 min` or `1:02:05`; `?` for None."""
    if seconds is None:
        return "?"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d} min"


def dollars(amount_usd: float) -> str:
    """Return an amount with cents, or with hundredths of a cent if it is less than a dollar."""
    return f"${amount_usd:,.2f}" if amount_usd >= 1 else f"${amount_usd:.4f}"


def cost_cell(cost_usd: float | None, *, unpriced: int, embedded: bool) -> str:
    """Return a cost for a cell of a table; the arguments are those of `cost_text`.

    >>> cost_cell(0.5, unpriced=3, embedded=False), cost_cell(None, unpriced=3, embedded=False)
    ('$0.5000 + 3 unknown', 'unknown')
    """
    if cost_usd is None:
        return FREE if embedded else "unknown"
    return f"{dollars(cost_usd)} + {unpriced:,} unknown" if unpriced and not embedded else dollars(cost_usd)


def cost_text(cost_usd: float | None, *, unpriced: int, embedded: bool) -> str:
    """Return a cost for people. An unknown cost is named, so that nobody reads it as nothing.

    Args:
        cost_usd: US dollars, None if no row's cost is known.
        unpriced: rows of unknown cost.
        embedded: the embedded server answered, which is free.
    """
    if cost_usd is None and embedded:
        return FREE
    if cost_usd is None:
        return "cost unknown" if unpriced else ""
    known = dollars(cost_usd)
    return f"{known}, unknown for {rows_text(unpriced)}" if unpriced else known


def over_budget_lines(cost_usd: float | Decimal | None, left_usd: float | None) -> list[str]:
    """Return a line if the budget does not cover an estimate.

    Args:
        cost_usd: estimated US dollars of the rows that have no answer yet; None if unknown.
        left_usd: US dollars of the budget that do not count as spent; None without a budget.
    """
    if not cost_usd or left_usd is None or cost_usd <= left_usd:
        return []
    left = dollars(max(0.0, left_usd))
    return [f"this exceeds --budget, of which {left} is left: the batch would stop before its last row"]
