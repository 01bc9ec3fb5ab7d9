"""Figures of a batch's rows: pure functions of the rows, whose results are JSON."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

import numpy as np

from batchrun.batch.totals import Totals
from batchrun.journal.live import CoolDown
from batchrun.report.rows import ReportRow

__all__ = ["batch_facts", "distribution", "distributions", "errors", "headline", "nice_step", "sittings"]

MEASURES: Final = {
    "prompt_tokens": "tokens",
    "completion_tokens": "tokens",
    "cost_usd": "USD",
    "duration_s": "s",
}
"""Columns whose distribution is shown, with their units."""

QUANTILES: Final = (0.5, 0.9, 0.99)
_BARS: Final = 40
_TAIL: Final = 4.0
"""A largest value beyond this multiple of the 99th percentile does not stretch the histogram."""

SITTING_GAP_S: Final = 900.0
"""Rows that end further apart belong to two sittings: the batch was stopped in between."""
_MOMENTS: Final = 120
_BIN_WIDTHS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400)
RATE_LIMITED: Final = "rate_limit_exceeded"
_WITHOUT_ANSWER: Final = ("failed", "expired", "cancelled")


def batch_facts(rows: Sequence[ReportRow], cool_downs: Sequence[CoolDown] | None = None) -> dict[str, Any]:
    """All figures of the rows.

    Args:
        cool_downs: oldest first; None where nobody recorded them.
    """
    ended = sittings(rows, cool_downs)
    return {
        "headline": headline(rows, ended),
        "distributions": distributions(rows),
        "sittings": ended,
        "errors": errors(rows),
    }


# -- headline -----------------------------------------------------------------------------------------------


def headline(rows: Sequence[ReportRow], ended: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows by status, tokens, cost, and how long it took.

    `busy_s` is the sum of the sittings; `started_at` and `ended_at` frame them all. None is not known.
    """
    totals = Totals()
    for row in rows:
        totals.add(row.cells)
    return {
        "rows": len(rows),
        "by_status": dict(totals.by_status),
        "failed": totals.failed,
        "prompt_tokens": totals.prompt_tokens,
        "completion_tokens": totals.completion_tokens,
        "tokens_known": any(row.cells["total_tokens"] is not None for row in rows),
        "cached_tokens": sum(row.cells["cached_tokens"] or 0 for row in rows),
        "reasoning_tokens": sum(row.cells["reasoning_tokens"] or 0 for row in rows),
        "cost_usd": totals.cost_usd,
        "unpriced": totals.unpriced,
        "models": dict(Counter(row.cells["model"] for row in rows if row.cells["model"]).most_common()),
        "busy_s": sum(each["ended_s"] - each["started_s"] for each in ended) if ended else None,
        "started_at": _iso(ended[0]["started_s"]) if ended else None,
        "ended_at": _iso(ended[-1]["ended_s"]) if ended else None,
    }


# -- distributions ------------------------------------------------------------------------------------------


def distributions(rows: Sequence[ReportRow]) -> list[dict[str, Any]]:
    """The distribution of each measure that any row has."""
    found = []
    for column, unit in MEASURES.items():
        values = [row.cells[column] for row in rows if row.cells[column] is not None]
        if values:
            found.append({"column": column, "unit": unit, **distribution(values, whole=unit == "tokens")})
    return found


def distribution(values: Sequence[float], *, whole: bool = False) -> dict[str, Any]:
    """Bars of equal width, quantiles (by linear interpolation), mean and extremes.

    Args:
        values: one or more.
        whole: they are integers, and so are the bars' ends.

    Returns:
        Among others `bars`: (from, to, count), where the value `to` belongs to the next bar but for the last one; and
        `beyond`: how many values lie above the last bar, where few would have made the others too narrow to see.
    """
    array = np.asarray(values, dtype=np.float64)
    p50, p90, p99 = (float(each) for each in np.quantile(array, QUANTILES))
    low, high = float(array.min()), float(array.max())
    end = p99 * 1.25 if p99 > 0 and high > _TAIL * p99 else high
    step = nice_step((end - low) / _BARS) if end > low else 1.0 if whole else (abs(low) / 10 or 1.0)
    step = max(1.0, step) if whole else step
    first = math.floor(low / step)
    # The whole numbers 3 to 5 need a bar for 5 itself; fractions may end on the last bar's end.
    bars = max(1, math.floor(end / step) - first + 1 if whole else math.ceil(end / step - 1e-9) - first)
    edges = np.arange(first, first + bars + 1) * step
    within = array[array <= edges[-1]] if high > end else array
    # Clipped, since rounding may put a value a hair beside the bar that begins with it.
    places = np.clip(np.floor(within / step).astype(np.int64) - first, 0, bars - 1)
    counts = np.bincount(places, minlength=bars)
    return {
        "n": len(array),
        "mean": float(array.mean()),
        "min": low,
        "max": high,
        "p50": p50,
        "p90": p90,
        "p99": p99,
        "bars": [
            [float(edges[index]), float(edges[index + 1]), int(count)] for index, count in enumerate(counts.tolist())
        ],
        "beyond": len(array) - len(within),
    }


def nice_step(least: float) -> float:
    """The smallest of 1, 2, 2.5, 5 and 10 times a power of ten that is no less."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= least * (1 - 1e-9))


# -- over time ----------------------------------------------------------------------------------------------


def sittings(rows: Sequence[ReportRow], cool_downs: Sequence[CoolDown] | None = None) -> list[dict[str, Any]]:
    """What went on, over time. A batch that was stopped and resumed has several sittings.

    Each has `started_s` and `ended_s` (seconds since 1970), `bin_s`, and lists with an entry for each bin: rows that
    `ended`, those of them that `failed`, their `tokens`, `tries` that began (None without a journal), and `refusals`:
    those of the tries that the service answered with a rate limit. `cool_downs` are spans (from, until, reason), none
    of which overlap; None where nobody recorded them.
    """
    moments = ((_epoch(row.cells["completed_at"]), row.cells) for row in rows)
    ended = sorted(
        ((moment, _Ended(cells)) for moment, cells in moments if moment is not None), key=lambda each: each[0]
    )
    if not ended:
        return []
    begun = sorted(
        (moment, each.fault_type == RATE_LIMITED)
        for row in rows
        for each in row.tries
        if (moment := _epoch(each.started_at)) is not None
    )
    groups: list[list[tuple[float, _Ended]]] = [[ended[0]]]
    for before, each in pairwise(ended):
        if each[0] - each[1].duration_s - before[0] > SITTING_GAP_S:
            groups.append([])
        groups[-1].append(each)
    cooled = None if cool_downs is None else _spans(cool_downs)
    return [_sitting(group, begun, cooled) for group in groups]


def _spans(cool_downs: Sequence[CoolDown]) -> list[tuple[float, float, str]]:
    """When nobody sent anything: cool-downs that run into each other are one, for the reason of the first."""
    spans: list[tuple[float, float, str]] = []
    for each in cool_downs:
        began = _epoch(each.started_at)
        if began is None:
            continue
        if spans and began <= spans[-1][1]:
            first, until, reason = spans.pop()
            spans.append((first, max(until, began + each.wait_s), reason))
        else:
            spans.append((began, began + each.wait_s, each.reason))
    return spans


class _Ended:
    """What the figures over time need of a row that ended."""

    __slots__ = ("duration_s", "failed", "tokens")

    def __init__(self, cells: Mapping[str, Any]) -> None:
        self.duration_s: float = cells["duration_s"] or 0.0
        self.failed: bool = cells["status"] in _WITHOUT_ANSWER
        self.tokens: int = cells["total_tokens"] or (cells["prompt_tokens"] or 0) + (cells["completion_tokens"] or 0)


def _sitting(
    ended: Sequence[tuple[float, _Ended]],
    begun: Sequence[tuple[float, bool]],
    cooled: Sequence[tuple[float, float, str]] | None,
) -> dict[str, Any]:
    last = ended[-1][0]
    first = min(moment - row.duration_s for moment, row in ended)
    within = begun[bisect_right(begun, (first - SITTING_GAP_S, True)) : bisect_right(begun, (last, True))]
    if within:
        first = min(first, within[0][0])
    span_s = max(1.0, last - first)
    bin_s = next((width for width in _BIN_WIDTHS_S if span_s / width <= _MOMENTS), _BIN_WIDTHS_S[-1])
    origin = math.floor(first / bin_s) * bin_s
    bins = int((last - origin) // bin_s) + 1

    def counted(moments: Iterable[tuple[float, int]]) -> list[int]:
        counts = [0] * bins
        for moment, weight in moments:
            counts[int((moment - origin) // bin_s)] += weight
        return counts

    return {
        "started_s": first,
        "ended_s": last,
        "origin_s": float(origin),
        "bin_s": bin_s,
        "ended": counted((moment, 1) for moment, _ in ended),
        "failed": counted((moment, row.failed) for moment, row in ended),
        "tokens": counted((moment, row.tokens) for moment, row in ended),
        "tries": counted((moment, 1) for moment, _ in within) if begun else None,
        "refusals": counted((moment, refused) for moment, refused in within) if begun else None,
        "cool_downs": None
        if cooled is None
        else [[began, min(until, last), why] for began, until, why in cooled if first <= began < last],
    }


# -- errors -------------------------------------------------------------------------------------------------


def errors(rows: Sequence[ReportRow]) -> list[dict[str, Any]]:
    """Each type of error: rows that ended with it, rows cut short by it, tries that met it (None without a journal),
    and the first text that says so; the most frequent first."""
    ended: Counter[str] = Counter()
    cut_short: Counter[str] = Counter()
    met: Counter[str] = Counter()
    example: dict[str, str] = {}
    for row in rows:
        cells = row.cells
        if cells["status"] in _WITHOUT_ANSWER:
            kind = cells["error_type"] or cells["status"]
            ended[kind] += 1
            example.setdefault(kind, cells["error"] or "")
        elif cells["status"] == "incomplete":
            kind = cells["error_type"] or "incomplete"
            cut_short[kind] += 1
            example.setdefault(kind, cells["error"] or "")
        for each in row.tries:
            if each.fault_type is not None:
                met[each.fault_type] += 1
                example[each.fault_type] = example.get(each.fault_type) or each.fault or ""
    known = any(row.tries for row in rows)
    kinds = sorted({*ended, *cut_short, *met}, key=lambda kind: (-ended[kind], -cut_short[kind], -met[kind], kind))
    return [
        {
            "error_type": kind,
            "rows": ended[kind],
            "cut_short": cut_short[kind],
            "tries": met[kind] if known else None,
            "example": example[kind][:500],
        }
        for kind in kinds
    ]


def _epoch(text: str | None) -> float | None:
    """Seconds since 1970; a moment without a time zone is taken as UTC, and what is no moment as not known."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="seconds")
