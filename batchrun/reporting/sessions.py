"""Sessions: rows, tokens, attempts and rate limits over time. A batch that was stopped and resumed has several."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from batchrun.journal.live import CoolDown
from batchrun.on_disk.numbers import StoredNumbers
from batchrun.reporting.page_facts import SessionFacts
from batchrun.reporting.rows import WITHOUT_ANSWER, ReportRow
from batchrun.scoring.statistics import Floats

__all__ = ["SessionMoments", "sessions"]

_SESSION_GAP_S: Final = 900.0
"""Rows that end further apart belong to two sessions: the batch was stopped in between."""
_SLOT_S: Final = _SESSION_GAP_S / 2
"""Rows that end within such a time belong to one session."""
_MAX_BINS: Final = 120
_BIN_WIDTHS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400)
_RATE_LIMITED: Final = "rate_limit_exceeded"

_LONGEST_S: Final = 366 * 86_400.0
"""A longer duration, in a table from elsewhere, counts as this one."""

_ENDED_S, _DURATION_S, _TOKENS, _FAILED, _SENT = range(5)
"""Places of the numbers of a row."""


class SessionMoments:
    """The moments at which rows ended and attempts began, as numbers in temporary files.

    Mutable state: the numbers of each row that ended, and of each attempt.
    """

    def __init__(self) -> None:
        self._rows = StoredNumbers(5)
        self._attempts = StoredNumbers(2)
        self._all_sent = True

    def add(self, row: ReportRow) -> None:
        """Keep the numbers of a row."""
        cells = row.cells
        ended_s = _epoch_s(cells["completed_at"])
        if ended_s is not None:
            tokens = cells["total_tokens"] or (cells["prompt_tokens"] or 0) + (cells["completion_tokens"] or 0)
            failed, sent = cells["status"] in WITHOUT_ANSWER, cells["attempts"] != 0
            self._all_sent = self._all_sent and sent
            duration_s = min(max(0.0, cells["duration_s"] or 0.0), _LONGEST_S)
            self._rows.append(ended_s, duration_s, tokens, failed, sent)
        for each in row.attempts:
            if (began_s := _epoch_s(each.started_at)) is not None:
                self._attempts.append(began_s, each.fault_type == _RATE_LIMITED)

    def sessions(self, cool_downs: Sequence[CoolDown] | None = None) -> list[SessionFacts]:
        """Return the sessions, oldest first.

        Args:
            cool_downs: oldest first; None if they were not recorded.
        """
        rows = self._rows_of_batch()
        found = _begins_and_ends(rows)
        if not found:
            return []
        attempts = self._attempts if len(self._attempts) else None
        counts = _counts(found, attempts)
        _count_rows(counts, rows)
        if attempts is not None:
            _count_attempts(counts, attempts)
        spans = None if cool_downs is None else _spans(cool_downs)
        return [each.facts(spans, has_attempts=attempts is not None) for each in counts]

    def _rows_of_batch(self) -> StoredNumbers:
        """Return the rows without those whose answer another batch has got: they ended in no session.

        A row without an attempt that is a duplicate ended together with the row that was sent.
        """
        if self._all_sent:
            return self._rows
        kept = StoredNumbers(5)
        for part in self._rows.parts():
            is_kept = (part[:, _SENT] != 0) | (part[:, _FAILED] != 0)
            is_kept[~is_kept] = self._are_ends_of_sent(part[~is_kept, _ENDED_S])
            kept.extend(part[is_kept])
        return kept

    def _are_ends_of_sent(self, moments_s: Floats) -> npt.NDArray[np.bool_]:
        """Return for each moment whether a row that was sent ended at it."""
        found = np.zeros(len(moments_s), np.bool_)
        for part in self._rows.parts() if len(moments_s) else ():
            ends_s = part[part[:, _SENT] != 0, _ENDED_S]
            if len(ends_s) and ends_s.min() <= moments_s.max() and moments_s.min() <= ends_s.max():
                found |= np.isin(moments_s, ends_s)
        return found


@dataclass(slots=True)
class _Slot:
    """The rows that ended within a short time, or all rows of a session.

    Mutable state: all; rows are added by `merge`.

    Attributes:
        first_s, last_s: the first and the last end of a row.
        duration_s: duration of the first one.
        began_s: when the first of the rows began.
    """

    first_s: float
    duration_s: float
    last_s: float
    began_s: float

    def merge(self, other: _Slot) -> None:
        """Add rows that come later in the table."""
        if other.first_s < self.first_s:
            self.first_s, self.duration_s = other.first_s, other.duration_s
        self.last_s, self.began_s = max(self.last_s, other.last_s), min(self.began_s, other.began_s)


def _begins_and_ends(rows: StoredNumbers) -> list[_Slot]:
    """Return the sessions without their counts, oldest first."""
    slots: dict[int, _Slot] = {}
    for part in rows.parts():
        for number, slot in _slots_of(part):
            if number in slots:
                slots[number].merge(slot)
            else:
                slots[number] = slot
    found: list[_Slot] = []
    for _, slot in sorted(slots.items()):
        if found and slot.first_s - slot.duration_s - found[-1].last_s <= _SESSION_GAP_S:
            found[-1].merge(slot)
        else:
            found.append(slot)
    return found


def _slots_of(part: Floats) -> Iterator[tuple[int, _Slot]]:
    part = part[np.argsort(part[:, _ENDED_S], kind="stable")]
    ended_s, durations_s = part[:, _ENDED_S], part[:, _DURATION_S]
    numbers, begins = np.unique(np.floor(ended_s / _SLOT_S), return_index=True)
    began_s = np.minimum.reduceat(ended_s - durations_s, begins)
    lasts_s = ended_s[[*(begins[1:] - 1), -1]]
    columns = (numbers, ended_s[begins], durations_s[begins], lasts_s, began_s)
    for number, *slot in zip(*(column.tolist() for column in columns), strict=True):
        yield int(number), _Slot(*slot)


class _Counts:
    """What happened in the bins of a session.

    Mutable state: the counts of each bin.
    """

    def __init__(self, slot: _Slot, first_s: float) -> None:
        """
        Args:
            first_s: when its first row or attempt began.
        """
        self.slot, self.first_s, self.last_s = slot, first_s, slot.last_s
        span_s = max(1.0, self.last_s - first_s)
        self._bin_s = next((width for width in _BIN_WIDTHS_S if span_s / width <= _MAX_BINS), _BIN_WIDTHS_S[-1])
        self._origin_s = math.floor(first_s / self._bin_s) * self._bin_s
        bins = int((self.last_s - self._origin_s) // self._bin_s) + 1
        self._ended, self._failed, self._tokens, self._tries, self._refusals = np.zeros((5, bins))

    def add_rows(self, part: Floats) -> None:
        """Count rows."""
        places = self._places(part[:, _ENDED_S])
        for counts, weights in (
            (self._ended, None),
            (self._failed, part[:, _FAILED]),
            (self._tokens, part[:, _TOKENS]),
        ):
            counts += np.bincount(places, weights, minlength=len(counts))

    def add_attempts(self, part: Floats) -> None:
        """Count attempts."""
        places = self._places(part[:, 0])
        for counts, weights in ((self._tries, None), (self._refusals, part[:, 1])):
            counts += np.bincount(places, weights, minlength=len(counts))

    def _places(self, moments_s: Floats) -> npt.NDArray[np.int64]:
        return ((moments_s - self._origin_s) // self._bin_s).astype(np.int64)

    def facts(self, spans: Sequence[tuple[float, float, str]] | None, *, has_attempts: bool) -> SessionFacts:
        """Return the session.

        Args:
            spans: all times without requests; None if they were not recorded.
            has_attempts: whether attempts are known.
        """
        first_s, last_s = self.first_s, self.last_s
        return {
            "started_s": first_s,
            "ended_s": last_s,
            "origin_s": float(self._origin_s),
            "bin_s": self._bin_s,
            "ended": _whole(self._ended),
            "failed": _whole(self._failed),
            "tokens": _whole(self._tokens),
            "tries": _whole(self._tries) if has_attempts else None,
            "refusals": _whole(self._refusals) if has_attempts else None,
            "cool_downs": None
            if spans is None
            else [(began, min(until, last_s), reason) for began, until, reason in spans if first_s <= began < last_s],
        }


def _whole(counts: Floats) -> list[int]:
    return [int(count) for count in counts]


def _counts(found: Sequence[_Slot], attempts: StoredNumbers | None) -> list[_Counts]:
    """Return the sessions, each beginning with its first row or the first attempt shortly before."""
    firsts_s = np.array([each.began_s for each in found])
    after_s, lasts_s = firsts_s - _SESSION_GAP_S, np.array([each.last_s for each in found])
    for part in attempts.parts() if attempts is not None else ():
        moments_s = np.sort(part[:, 0])
        begins, ends = (np.searchsorted(moments_s, each, side="right") for each in (after_s, lasts_s))
        has_some = begins < ends
        firsts_s[has_some] = np.minimum(firsts_s[has_some], moments_s[begins[has_some]])
    return [_Counts(slot, first_s) for slot, first_s in zip(found, firsts_s.tolist(), strict=True)]


def _count_rows(counts: Sequence[_Counts], rows: StoredNumbers) -> None:
    """Count the rows of each session."""
    begins_s = np.array([each.slot.first_s for each in counts])
    for part in rows.parts():
        numbers = np.searchsorted(begins_s, part[:, _ENDED_S], side="right") - 1
        for number in np.unique(numbers).tolist():
            counts[number].add_rows(part[numbers == number])


def _count_attempts(counts: Sequence[_Counts], attempts: StoredNumbers) -> None:
    """Count the attempts of each session; one shortly before a session's rows belongs to it."""
    after_s = np.array([each.slot.began_s for each in counts]) - _SESSION_GAP_S
    lasts_s = np.array([each.last_s for each in counts])
    for part in attempts.parts():
        part = part[np.argsort(part[:, 0], kind="stable")]
        begins, ends = (np.searchsorted(part[:, 0], each, side="right").tolist() for each in (after_s, lasts_s))
        for each, begin, end in zip(counts, begins, ends, strict=True):
            if begin < end:
                each.add_attempts(part[begin:end])


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


def _epoch_s(text: str | None) -> float | None:
    """Return seconds since 1970; None for text that is not a date. A date without a time zone is taken as UTC."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
