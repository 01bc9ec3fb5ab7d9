"""Scores in detail: how they are distributed, which labels are confused, and how they depend on length and cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from batchrun.reporting.distributions import distribution
from batchrun.reporting.page_facts import ConfusionFacts, ScoreBandFacts, ScoreDetailFacts
from batchrun.reporting.rows import ReportRow, RowColumns
from batchrun.scoring.scorers.base import Score
from batchrun.scoring.statistics import estimate
from batchrun.wording import clipped

__all__ = ["bands", "confusion", "labels_of", "score_details"]

_BANDS: Final = 5
"""Most bands of about equally many rows, by length or cost."""

_LEAST_ROWS: Final = 10
"""Rows of a band; the mean of fewer shows little but chance."""

_LABELS: Final = 20
"""A scorer with more expected labels compares texts, not labels."""

_LABEL_CHARACTERS: Final = 60

_OTHER_LABELS: Final = 6
"""Most given labels that are never expected and have a column of their own."""


def score_details(rows: Sequence[ReportRow], columns: RowColumns) -> list[ScoreDetailFacts]:
    """Return the details of each scorer's scores."""
    length = "completion_tokens"
    if all(row.cells[length] is None for row in rows):
        length = "characters"
    measures = {
        length: [_length(row) if length == "characters" else row.cells[length] for row in rows],
        "cost_usd": [row.cells["cost_usd"] for row in rows],
    }
    details: list[ScoreDetailFacts] = []
    for name in (each.key for each in columns.listed if each.role == "score"):
        scores = [row.scores.get(name) for row in rows]
        values = [score for score in scores if score is not None]
        labels = [row.compared[name] for row in rows if name in row.compared]
        details.append(
            {
                "scorer": name,
                "bars": distribution(values) if any(0 < each < 1 for each in values) else None,
                "by": [
                    {"measure": measure, "bands": found}
                    for measure, amounts in measures.items()
                    if len(found := bands(scores, amounts)) > 1
                ],
                "confusion": confusion(labels),
            }
        )
    return details


def labels_of(scorers: Sequence[str], scores: Sequence[Score | None]) -> dict[str, tuple[str, str | None]]:
    """Return scorer → expected and found label of a row, for scorers that compare labels. Long texts are left out."""
    return {
        name: (score.compared[0], None if score.compared[1] is None else clipped(score.compared[1], _LABEL_CHARACTERS))
        for name, score in zip(scorers, scores, strict=True)
        if score is not None and score.compared is not None and len(score.compared[0]) <= _LABEL_CHARACTERS
    }


def _length(row: ReportRow) -> int | None:
    answer = row.cells["response"]
    return None if answer is None else len(answer)


def bands(scores: Sequence[float | None], amounts: Sequence[float | None]) -> list[ScoreBandFacts]:
    """Return the mean score in up to five bands of about equally many rows, at least ten, from small to large amounts.

    Equal amounts are in one band, so that a band may have more or fewer rows. Its rows are taken as independent.

    Args:
        scores: of the rows; None for rows without a score.
        amounts: of the same rows, such as their length; None if unknown.
    """
    pairs = [
        (amount, score)
        for amount, score in zip(amounts, scores, strict=True)
        if amount is not None and score is not None
    ]
    pairs.sort(key=lambda each: each[0])
    found: list[ScoreBandFacts] = []
    for begin, end in _ranges([amount for amount, _ in pairs]):
        of_band = estimate(np.asarray([score for _, score in pairs[begin:end]], dtype=np.float64))
        found.append(
            {
                "least": pairs[begin][0],
                "most": pairs[end - 1][0],
                "n": end - begin,
                "mean": of_band.mean,
                "low": of_band.low,
                "high": of_band.high,
                "note": of_band.note,
            }
        )
    return found


def _ranges(amounts: Sequence[float]) -> Iterator[tuple[int, int]]:
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


def confusion(pairs: Sequence[tuple[str, str | None]]) -> ConfusionFacts | None:
    """Return how often each expected label got each given label; None if the texts are not labels.

    Args:
        pairs: expected and given label of each row; None if the answer gives none.
    """
    counts = Counter(pairs)
    expected = sorted({label for label, _ in counts})
    if not 2 <= len(expected) <= _LABELS or len(expected) > len(pairs) / 2:
        return None
    others = Counter(given for _, given in pairs if given is not None and given not in expected)
    further = [label for label, _ in others.most_common(_OTHER_LABELS)]
    place = {label: index for index, label in enumerate([*expected, *further])}
    table = [[0] * (len(place) + 2) for _ in expected]
    for (label, given), rows in counts.items():
        column = len(place) + 1 if given is None else place.get(given, len(place))
        table[place[label]][column] += rows
    return {"expected": expected, "given": list(place), "counts": table}
