"""Sessions: rows, tokens, attempts and rate limits over time. A batch that was stopped and resumed has several."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from batchrun.journal.live import CoolDown
from batchrun.reporting.page_facts import SessionFacts
from batchrun.reporting.rows import WITHOUT_ANSWER, ReportRow
from batchrun.scoring.statistics import Floats

__all__ = ["SessionMoments", "sessions"]

_SESSION_GAP_S: Final = 900.0
"""Rows that end further apart belong to two sessions: the batch was stopped in between."""
_MAX_BINS: Final = 120
_BIN_WIDTHS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400)
_RATE_LIMITED: Final = "rate_limit_exceeded"


class SessionMoments:
    """The moments at which rows ended and attempts began, as numbers.

    Mutable state: the numbers of each row that ended, and of each attempt.
    """

    def __init__(self) -> None:
        self._ended_s, self._durations_s, self._tokens = array("d"), array("d"), array("d")
        self._failed, self._is_sent = bytearray(), bytearray()
        self._began_s, self._refused = array("d"), bytearray()

    def add(self, row: ReportRow) -> None:
        """Keep the numbers of a row."""
        cells = row.cells
        ended_s = _epoch_s(cells["completed_at"])
        if ended_s is not None:
            self._ended_s.append(ended_s)
            self._durations_s.append(cells["duration_s"] or 0.0)
            tokens = cells["total_tokens"] or (cells["prompt_tokens"] or 0) + (cells["completion_tokens"] or 0)
            self._tokens.append(tokens)
            self._failed.append(cells["status"] in WITHOUT_ANSWER)
            self._is_sent.append(cells["attempts"] != 0)
        for each in row.attempts:
            if (began_s := _epoch_s(each.started_at)) is not None:
                self._began_s.append(began_s)
                self._refused.append(each.fault_type == _RATE_LIMITED)

    def sessions(self, cool_downs: Sequence[CoolDown] | None = None) -> list[SessionFacts]:
        """Return the sessions, oldest first.

        Args:
            cool_downs: oldest first; None if they were not recorded.
        """
        ended = self._rows_of_batch()
        if not len(ended.moments_s):
            return []
        moments, refused = np.asarray(self._began_s), np.asarray(self._refused, dtype=np.float64)
        order = np.lexsort((refused, moments))
        begun = _Attempts(moments[order], refused[order])
        pauses = ended.moments_s[1:] - ended.durations_s[1:] - ended.moments_s[:-1]
        starts = [0, *(int(each) + 1 for each in np.flatnonzero(pauses > _SESSION_GAP_S)), len(ended.moments_s)]
        spans = None if cool_downs is None else _spans(cool_downs)
        return [_session(ended.part(first, until), begun, spans) for first, until in pairwise(starts)]

    def _rows_of_batch(self) -> _Ended:
        """Return the rows, by their ends, without those whose answer another batch has got: they ended in no session.

        A row without an attempt that is a duplicate ended together with the row that was sent.
        """
        moments, failed = np.asarray(self._ended_s), np.asarray(self._failed, dtype=np.bool_)
        sent = np.asarray(self._is_sent, dtype=np.bool_)
        kept = sent if sent.all() else sent | failed | np.isin(moments, moments[sent])
        order = np.argsort(moments, kind="stable")
        order = order[kept[order]]
        tokens = np.asarray(self._tokens)
        return _Ended(moments[order], np.asarray(self._durations_s)[order], failed[order], tokens[order])


def sessions(rows: Iterable[ReportRow], cool_downs: Sequence[CoolDown] | None = None) -> list[SessionFacts]:
    """Return the sessions of rows, as `SessionMoments.sessions`."""
    moments = SessionMoments()
    for row in rows:
        moments.add(row)
    return moments.sessions(cool_downs)


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


@dataclass(frozen=True, slots=True)
class _Ended:
    """Rows that ended, by the moment at which they did."""

    moments_s: Floats
    durations_s: Floats
    failed: npt.NDArray[np.bool_]
    tokens: Floats

    def part(self, first: int, until: int) -> _Ended:
        """Return some of the rows."""
        chosen = slice(first, until)
        return _Ended(self.moments_s[chosen], self.durations_s[chosen], self.failed[chosen], self.tokens[chosen])


@dataclass(frozen=True, slots=True)
class _Attempts:
    """Attempts, by the moment at which they began; `refused` is 1 for those that met a rate limit."""

    moments_s: Floats
    refused: Floats


def _session(ended: _Ended, begun: _Attempts, spans: Sequence[tuple[float, float, str]] | None) -> SessionFacts:
    """Return one session.

    Args:
        ended: its rows.
        begun: all attempts.
        spans: all times without requests; None if they were not recorded.
    """
    last = float(ended.moments_s[-1])
    first = float((ended.moments_s - ended.durations_s).min())
    place, end = np.searchsorted(begun.moments_s, (first - _SESSION_GAP_S, last), side="right")
    within = _Attempts(begun.moments_s[place:end], begun.refused[place:end])
    if len(within.moments_s):
        first = min(first, float(within.moments_s[0]))
    span_s = max(1.0, last - first)
    bin_s = next((width for width in _BIN_WIDTHS_S if span_s / width <= _MAX_BINS), _BIN_WIDTHS_S[-1])
    origin = math.floor(first / bin_s) * bin_s
    bins = int((last - origin) // bin_s) + 1

    def counted(moments_s: Floats, weights: npt.NDArray[Any] | None = None) -> list[int]:
        places = ((moments_s - origin) // bin_s).astype(np.int64)
        return [int(count) for count in np.bincount(places, weights, minlength=bins)]

    has_attempts = len(begun.moments_s) > 0
    return {
        "started_s": first,
        "ended_s": last,
        "origin_s": float(origin),
        "bin_s": bin_s,
        "ended": counted(ended.moments_s),
        "failed": counted(ended.moments_s, ended.failed),
        "tokens": counted(ended.moments_s, ended.tokens),
        "tries": counted(within.moments_s) if has_attempts else None,
        "refusals": counted(within.moments_s, within.refused) if has_attempts else None,
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
