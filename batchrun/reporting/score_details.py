"""Scores in detail: how they are distributed, which labels are confused, and how they depend on length and cost."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from batchrun.reporting.distributions import distribution
from batchrun.reporting.page_facts import ConfusionFacts, ScoreBandFacts, ScoreDetailFacts
from batchrun.reporting.rows import ReportRow, RowColumns
from batchrun.scoring.scorers.base import Score
from batchrun.scoring.statistics import Floats, estimate
from batchrun.wording import clipped

__all__ = ["LabelCounts", "ScoreFigures", "bands", "confusion", "labels_of", "score_details"]

_BANDS: Final = 5
"""Most bands of about equally many rows, by length or cost."""

_LEAST_ROWS: Final = 10
"""Rows of a band; the mean of fewer shows little but chance."""

_LABELS: Final = 20
"""A scorer with more expected labels compares texts, not labels."""

_LABEL_CHARACTERS: Final = 60

_OTHER_LABELS: Final = 6
"""Most given labels that are never expected and have a column of their own."""


class ScoreFigures:
    """The details of scores, from rows that are added one by one. NaN takes the place of an unknown number.

    Mutable state: the numbers of each row, and the labels of each scorer.
    """

    def __init__(self, columns: RowColumns) -> None:
        names = [each.key for each in columns.listed if each.role == "score"]
        self._values = {name: array("d") for name in names}
        self._labels = {name: LabelCounts() for name in names}
        self._tokens, self._characters, self._costs = array("d"), array("d"), array("d")
        self._has_tokens = False

    def add(self, row: ReportRow) -> None:
        """Keep a row's numbers and labels."""
        if not self._values:
            return
        cells, answer = row.cells, row.cells["response"]
        self._has_tokens = self._has_tokens or cells["completion_tokens"] is not None
        self._tokens.append(_or_nan(cells["completion_tokens"]))
        self._characters.append(math.nan if answer is None else len(answer))
        self._costs.append(_or_nan(cells["cost_usd"]))
        for name, values in self._values.items():
            values.append(_or_nan(row.scores.get(name)))
            if name in row.compared:
                self._labels[name].add(row.compared[name])

    def facts(self) -> list[ScoreDetailFacts]:
        """Return the details of each scorer's scores."""
        length = "completion_tokens" if self._has_tokens or not len(self._tokens) else "characters"
        lengths = self._tokens if length == "completion_tokens" else self._characters
        details: list[ScoreDetailFacts] = []
        for name, of_rows in self._values.items():
            scores = np.asarray(of_rows)
            values = scores[~np.isnan(scores)]
            measured = [
                (length, bands(scores, np.asarray(lengths), whole=True)),
                ("cost_usd", bands(scores, np.asarray(self._costs))),
            ]
            details.append(
                {
                    "scorer": name,
                    "bars": distribution(values) if bool(((values > 0) & (values < 1)).any()) else None,
                    "by": [{"measure": measure, "bands": found} for measure, found in measured if len(found) > 1],
                    "confusion": self._labels[name].confusion(),
                }
            )
        return details


def score_details(rows: Iterable[ReportRow], columns: RowColumns) -> list[ScoreDetailFacts]:
    """Return the details of the scores of rows, as `ScoreFigures.facts`."""
    counted = ScoreFigures(columns)
    for row in rows:
        counted.add(row)
    return counted.facts()


def _or_nan(number: float | None) -> float:
    return math.nan if number is None else number


def labels_of(scorers: Sequence[str], scores: Sequence[Score | None]) -> dict[str, tuple[str, str | None]]:
    """Return scorer → expected and found label of a row, for scorers that compare labels. Long texts are left out."""
    return {
        name: (score.compared[0], None if score.compared[1] is None else clipped(score.compared[1], _LABEL_CHARACTERS))
        for name, score in zip(scorers, scores, strict=True)
        if score is not None and score.compared is not None and len(score.compared[0]) <= _LABEL_CHARACTERS
    }


def bands(scores: Floats, amounts: Floats, *, whole: bool = False) -> list[ScoreBandFacts]:
    """Return the mean score in up to five bands of about equally many rows, at least ten, from small to large amounts.

    Equal amounts are in one band, so that a band may have more or fewer rows. Its rows are taken as independent.

    Args:
        scores: of the rows; NaN for rows without a score.
        amounts: of the same rows, such as their length; NaN if unknown.
        whole: whether the amounts are integers.
    """
    known = ~(np.isnan(scores) | np.isnan(amounts))
    order = np.argsort(amounts[known], kind="stable")
    scores, amounts = scores[known][order], amounts[known][order]
    found: list[ScoreBandFacts] = []
    for begin, end in _ranges(amounts):
        of_band = estimate(scores[begin:end])
        least, most = float(amounts[begin]), float(amounts[end - 1])
        found.append(
            {
                "least": int(least) if whole else least,
                "most": int(most) if whole else most,
                "n": end - begin,
                "mean": of_band.mean,
                "low": of_band.low,
                "high": of_band.high,
                "note": of_band.note,
            }
        )
    return found


def _ranges(amounts: Floats) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each band of sorted amounts."""
    begin, n = 0, len(amounts)
    bands = min(_BANDS, n // _LEAST_ROWS)
    for band in range(1, bands + 1):
        end = n * band // bands
        while 0 < end < n and amounts[end] == amounts[end - 1]:
            end += 1
        if end > begin:
            yield begin, end
            begin = end


class LabelCounts:
    """How often each expected label got each given one; nothing once there are too many expected texts for labels.

    Mutable state: the counts.
    """

    def __init__(self) -> None:
        self._pairs: Counter[tuple[str, str | None]] = Counter()
        self._expected: set[str] = set()

    def add(self, pair: tuple[str, str | None]) -> None:
        """Count the expected and the given label of a row; None if the answer gives none."""
        if len(self._expected) <= _LABELS:
            self._expected.add(pair[0])
            self._pairs[pair] += 1
        elif self._pairs:
            self._pairs.clear()

    def confusion(self) -> ConfusionFacts | None:
        """Return the counts as a table; None if the texts are not labels."""
        expected = sorted(self._expected)
        if not 2 <= len(expected) <= _LABELS or len(expected) > self._pairs.total() / 2:
            return None
        others: Counter[str] = Counter()
        for (_, given), rows in self._pairs.items():
            if given is not None and given not in self._expected:
                others[given] += rows
        further = [label for label, _ in others.most_common(_OTHER_LABELS)]
        place = {label: index for index, label in enumerate([*expected, *further])}
        table = [[0] * (len(place) + 2) for _ in expected]
        for (label, given), rows in self._pairs.items():
            column = len(place) + 1 if given is None else place.get(given, len(place))
            table[place[label]][column] += rows
        return {"expected": expected, "given": list(place), "counts": table}


def confusion(pairs: Iterable[tuple[str, str | None]]) -> ConfusionFacts | None:
    """Return how often each expected label got each given label, as `LabelCounts.confusion`."""
    counts = LabelCounts()
    for pair in pairs:
        counts.add(pair)
    return counts.confusion()
