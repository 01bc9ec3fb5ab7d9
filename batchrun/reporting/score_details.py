"""Scores in detail: how they are distributed, which labels are confused, and how they depend on length and cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from batchrun.on_disk.numbers import StoredNumbers
from batchrun.reporting.distributions import distribution, or_nan
from batchrun.reporting.order_statistics import Parts, ranked
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


_TOKENS, _CHARACTERS, _COST, _FIRST_SCORE = range(4)
"""Places of the numbers of a row; the scores follow one another."""


class ScoreFigures:
    """The details of scores, from rows that are added one by one. NaN takes the place of an unknown number.

    Mutable state: the numbers of each row, in a temporary file, and the labels of each scorer.
    """

    def __init__(self, columns: RowColumns) -> None:
        self._names = [each.key for each in columns.listed if each.role == "score"]
        self._numbers = StoredNumbers(_FIRST_SCORE + len(self._names))
        self._labels = {name: LabelCounts() for name in self._names}
        self._has_tokens = False

    def add(self, row: ReportRow) -> None:
        """Keep a row's numbers and labels."""
        if not self._names:
            return
        cells, answer = row.cells, row.cells["response"]
        self._has_tokens = self._has_tokens or cells["completion_tokens"] is not None
        self._numbers.append(
            or_nan(cells["completion_tokens"]),
            math.nan if answer is None else len(answer),
            or_nan(cells["cost_usd"]),
            *(or_nan(row.scores.get(name)) for name in self._names),
        )
        for name in self._names:
            if name in row.compared:
                self._labels[name].add(row.compared[name])

    def facts(self) -> list[ScoreDetailFacts]:
        """Return the details of each scorer's scores."""
        has_tokens = self._has_tokens or not len(self._numbers)
        length = "completion_tokens" if has_tokens else "characters"
        details: list[ScoreDetailFacts] = []
        for place, name in enumerate(self._names, _FIRST_SCORE):
            values = self._numbers.column(place)
            measured = [
                (length, bands(self._numbers, place, _TOKENS if has_tokens else _CHARACTERS, whole=True)),
                ("cost_usd", bands(self._numbers, place, _COST)),
            ]
            is_fraction = any(bool(((part > 0) & (part < 1)).any()) for part in values)
            details.append(
                {
                    "scorer": name,
                    "bars": distribution(values) if is_fraction else None,
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


def labels_of(scorers: Sequence[str], scores: Sequence[Score | None]) -> dict[str, tuple[str, str | None]]:
    """Return scorer → expected and found label of a row, for scorers that compare labels. Long texts are left out."""
    return {
        name: (score.compared[0], None if score.compared[1] is None else clipped(score.compared[1], _LABEL_CHARACTERS))
        for name, score in zip(scorers, scores, strict=True)
        if score is not None and score.compared is not None and len(score.compared[0]) <= _LABEL_CHARACTERS
    }


def bands(numbers: StoredNumbers, score: int, amount: int, *, whole: bool = False) -> list[ScoreBandFacts]:
    """Return the mean score in up to five bands of about equally many rows, at least ten, from small to large amounts.

    Equal amounts are in one band, so that a band may have more or fewer rows. Its rows are taken as independent.

    Args:
        numbers: of the rows; NaN if unknown.
        score: place of the score in a row.
        amount: place of the amount, such as the length of the answer.
        whole: whether the amounts are integers.
    """
    known = _KnownPairs(numbers, score, amount)
    found: list[ScoreBandFacts] = []
    most = -math.inf
    for last in _lasts(known):
        before, most = most, last
        of_band = [(scores[within], amounts[within]) for scores, amounts in known.pairs()
                   for within in [(amounts > before) & (amounts <= most)]]  # fmt: skip
        scores = np.concatenate([scores for scores, _ in of_band])
        least = min(float(amounts.min()) for _, amounts in of_band if len(amounts))
        mean = estimate(scores)
        found.append(
            {
                "least": int(least) if whole else least,
                "most": int(most) if whole else most,
                "n": len(scores),
                "mean": mean.mean,
                "low": mean.low,
                "high": mean.high,
                "note": mean.note,
            }
        )
    return found


@dataclass(frozen=True, slots=True)
class _KnownPairs:
    """The scores and amounts of the rows that have both."""

    numbers: StoredNumbers
    score: int
    amount: int

    def pairs(self) -> Iterator[tuple[Floats, Floats]]:
        """Yield scores and amounts, in parts."""
        for part in self.numbers.parts():
            scores, amounts = part[:, self.score], part[:, self.amount]
            known = ~(np.isnan(scores) | np.isnan(amounts))
            yield scores[known], amounts[known]

    def __iter__(self) -> Iterator[Floats]:
        return (amounts for _, amounts in self.pairs())


def _lasts(amounts: Parts) -> list[float]:
    """Return the largest amount of each band, in ascending order."""
    n = sum(len(part) for part in amounts)
    bands = min(_BANDS, n // _LEAST_ROWS)
    found = ranked(amounts, (n * band // bands - 1 for band in range(1, bands + 1)))
    return sorted(set(found.values()))


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
