"""Sessions: rows, tokens, attempts and rate limits over time. A batch that was stopped and resumed has several."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from batchrun.journal.live import CoolDown
from batchrun.records import Cells
from batchrun.reporting.page_facts import SessionFacts
from batchrun.reporting.rows import WITHOUT_ANSWER, ReportRow

__all__ = ["sessions"]

_SESSION_GAP_S: Final = 900.0
"""Rows that end further apart belong to two sessions: the batch was stopped in between."""
_MAX_BINS: Final = 120
_BIN_WIDTHS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400)
_RATE_LIMITED: Final = "rate_limit_exceeded"


def sessions(rows: Sequence[ReportRow], cool_downs: Sequence[CoolDown] | None = None) -> list[SessionFacts]:
    """Return the sessions, oldest first.

    Args:
        cool_downs: oldest first; None if they were not recorded.
    """
    moments = ((_epoch_s(row.cells["completed_at"]), row.cells) for row in _rows_of_batch(rows))
    ended = sorted(
        ((moment, _EndedRow(cells)) for moment, cells in moments if moment is not None), key=lambda each: each[0]
    )
    if not ended:
        return []
    begun = sorted(
        (moment, each.fault_type == _RATE_LIMITED)
        for row in rows
        for each in row.attempts
        if (moment := _epoch_s(each.started_at)) is not None
    )
    groups: list[list[tuple[float, _EndedRow]]] = [[ended[0]]]
    for before, each in pairwise(ended):
        if each[0] - each[1].duration_s - before[0] > _SESSION_GAP_S:
            groups.append([])
        groups[-1].append(each)
    spans = None if cool_downs is None else _spans(cool_downs)
    return [_session(group, begun, spans) for group in groups]


def _rows_of_batch(rows: Sequence[ReportRow]) -> Sequence[ReportRow]:
    """Return the rows without those whose answer another batch has got: they ended in no session of this one.

    A row without an attempt that is a duplicate ended together with the row that was sent.
    """
    if not any(row.cells["attempts"] == 0 for row in rows):
        return rows
    sent_until = {row.cells["completed_at"] for row in rows if row.cells["attempts"] != 0}
    return [
        row
        for row in rows
        if row.cells["attempts"] != 0
        or row.cells["status"] in WITHOUT_ANSWER
        or row.cells["completed_at"] in sent_until
    ]


def _spans(cool_downs: Sequence[CoolDown]) -> list[tuple[float, float, str]]:
    """Return the times without requests; overlapping cool-downs become one, with the reason of the first."""
    spans: list[tuple[float, float, str]] = []
    for each in cool_downs:
        began = _epoch_s(each.started_at)
        if began is None:
            continue
        if spans and began <= spans[-1][1]:
            first, until, reason = spans.pop()
            spans.append((first, max(until, began + each.wait_s), reason))
        else:
            spans.append((began, began + each.wait_s, each.reason))
    return spans


class _EndedRow:
    """The duration, the result and the tokens of a row that ended."""

    __slots__ = ("duration_s", "failed", "tokens")

    def __init__(self, cells: Cells) -> None:
        self.duration_s: float = cells["duration_s"] or 0.0
        self.failed: bool = cells["status"] in WITHOUT_ANSWER
        self.tokens: int = cells["total_tokens"] or (cells["prompt_tokens"] or 0) + (cells["completion_tokens"] or 0)


def _session(
    ended: Sequence[tuple[float, _EndedRow]],
    begun: Sequence[tuple[float, bool]],
    spans: Sequence[tuple[float, float, str]] | None,
) -> SessionFacts:
    """Return one session.

    Args:
        ended: its rows by the moment at which they ended.
        begun: all attempts: the moment at which they began, and whether they met a rate limit.
        spans: all times without requests; None if they were not recorded.
    """
    last = ended[-1][0]
    first = min(moment - row.duration_s for moment, row in ended)
    within = begun[bisect_right(begun, (first - _SESSION_GAP_S, True)) : bisect_right(begun, (last, True))]
    if within:
        first = min(first, within[0][0])
    span_s = max(1.0, last - first)
    bin_s = next((width for width in _BIN_WIDTHS_S if span_s / width <= _MAX_BINS), _BIN_WIDTHS_S[-1])
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
        if spans is None
        else [(began, min(until, last), reason) for began, until, reason in spans if first <= began < last],
    }


def _epoch_s(text: str | None) -> float | None:
    """Return seconds since 1970; None for text that is not a date. A date without a time zone is taken as UTC."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
