"""Figures as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from batchrun.scoring.statistics import Estimate
from batchrun.scoring.summary import Figures, Missing
from batchrun.wording import counted

__all__ = [
    "MISSING_TEXT",
    "correlation_text",
    "counts_text",
    "interval",
    "p_text",
    "pairs_text",
    "percent",
    "signed",
    "some_keys",
]

_MAX_KEYS = 10

MISSING_TEXT: Final[Mapping[Missing, str]] = {
    "failed": "failed",
    "unjudged": "not judged",
    "unfinished": "without an answer yet",
    "cut_short": "cut short",
}
"""Words for rows that should have a score and do not count as scored."""


def counts_text(figures: Figures) -> str:
    """Return the counts of rows that are not scored like the others, as `2 failed, 1 not judged`; "" without such."""
    counts = (
        (figures.failed, "failed"),
        (figures.unjudged, "not judged"),
        (figures.unfinished, "unfinished"),
        (figures.cut_short, "cut short"),
        (figures.skipped, "skipped"),
    )
    return ", ".join(f"{count:,} {word}" for count, word in counts if count)


def pairs_text(number: int) -> str:
    """Return `1 pair`, `2 pairs`."""
    return counted(number, "pair")


def some_keys(keys: Sequence[str]) -> str:
    """Return the first keys of rows, behind a colon, and the number of the others; "" without keys."""
    if not keys:
        return ""
    more = f" and {len(keys) - _MAX_KEYS:,} more (--json lists them)" if len(keys) > _MAX_KEYS else ""
    return f": {', '.join(keys[:_MAX_KEYS])}{more}"


def percent(share: float | None) -> str:
    """Return a share in percent, with one digit after the point. A half is rounded up, as on the page."""
    return "–" if share is None else f"{Decimal(100 * share).quantize(Decimal('0.1'), ROUND_HALF_UP)} %"


def signed(number: float | None) -> str:
    """Return a difference of shares with its sign."""
    return "–" if number is None else f"{number:+.4f}".replace("-", "−")


def interval(estimate: Estimate, *, signed: bool = False) -> str:
    """Return the confidence interval in brackets."""
    if estimate.low is None or estimate.high is None:
        return "(no interval)"
    form = _signed if signed else _plain
    return f"({form(estimate.low)} to {form(estimate.high)})"


def p_text(p_value: float | None) -> str:
    """Return a p-value in its usual form."""
    if p_value is None:
        return "p –"
    return "p < 0.0001" if p_value < 0.0001 else f"p = {p_value:.4f}"


def _plain(number: float) -> str:
    return f"{number:.4f}"


def _signed(number: float) -> str:
    return f"{number:+.4f}".replace("-", "−")


def correlation_text(correlation: float | None) -> str:
    """Return a correlation with two digits after the point."""
    return "–" if correlation is None else f"{round(correlation, 2) + 0.0:.2f}".replace("-", "−")
