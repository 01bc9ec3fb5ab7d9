"""Figures as people read them."""

from __future__ import annotations

from batchrun.scoring.statistics import Estimate

__all__ = ["p_text", "percent", "signed", "spread"]


def percent(share: float | None) -> str:
    """A share in percent, with one digit behind the point."""
    return "–" if share is None else f"{100 * share:.1f} %"


def signed(number: float | None) -> str:
    """A difference of shares, with its sign."""
    return "–" if number is None else f"{number:+.4f}".replace("-", "−")


def spread(found: Estimate, *, signed: bool = False) -> str:
    """The interval in brackets."""
    if found.low is None or found.high is None:
        return "(no interval)"
    form = _signed if signed else _plain
    return f"({form(found.low)} to {form(found.high)})"


def p_text(p_value: float | None) -> str:
    """A p-value as it is usually given."""
    if p_value is None:
        return "p –"
    return "p < 0.0001" if p_value < 0.0001 else f"p = {p_value:.4f}"


def _plain(number: float) -> str:
    return f"{number:.4f}"


def _signed(number: float) -> str:
    return f"{number:+.4f}".replace("-", "−")
