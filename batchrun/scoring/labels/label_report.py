"""LabelReport: what hand labels say about the scores of one scorer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from batchrun.errors import InputError
from batchrun.scoring.figures_text import percent
from batchrun.scoring.labels.agreement import Agreement, agreement
from batchrun.scoring.labels.corrected import MIN_LABELS, Corrected, corrected_mean
from batchrun.scoring.labels.hand_labels import HandLabels
from batchrun.scoring.score_facts import LabelFacts
from batchrun.scoring.score_tally import ScoreTally
from batchrun.scoring.scorers.base import NamedScorer
from batchrun.scoring.statistics import Estimate, estimate
from batchrun.scoring.summary import estimate_facts
from batchrun.wording import rows_text, shortened

__all__ = ["LabelReport", "label_lines", "label_report"]


@dataclass(frozen=True, slots=True)
class LabelReport:
    """What hand labels say about the scores of one scorer.

    Attributes:
        scorer: name of the scorer.
        column: where the labels are.
        labelled: rows with a label.
        outdated: ratings of earlier answers, which are not used.
        agreement: over the rows with a label and a score; None without such a row.
        by_hand: mean label of these rows, with its interval.
        corrected: the mean of all scored rows, corrected for the scorer's errors; None with fewer than 10 such rows.
        scored: rows with a score.
    """

    scorer: str
    column: str
    labelled: int
    outdated: int
    agreement: Agreement | None
    by_hand: Estimate
    corrected: Corrected | None
    scored: int

    def facts(self) -> LabelFacts:
        """Return the report as JSON."""
        found, corrected = self.agreement, self.corrected
        confusion = {} if found is None else found.confusion
        return {
            "scorer": self.scorer,
            "labels": self.column,
            "labelled": self.labelled,
            "outdated": self.outdated,
            "agreement": None if found is None else estimate_facts(found.equal),
            "kappa": None if found is None else found.kappa,
            "kappa_low": None if found is None else found.low,
            "kappa_high": None if found is None else found.high,
            "kappa_weights": "quadratic" if found is not None and found.is_weighted else "none",
            "confusion": [
                {"label": label, "score": score, "rows": rows} for (label, score), rows in sorted(confusion.items())
            ],
            "by_hand": estimate_facts(self.by_hand),
            "corrected": None
            if corrected is None
            else {
                "mean": corrected.mean,
                "low": corrected.low,
                "high": corrected.high,
                "method": corrected.method,
                "rows": self.scored,
            },
        }


def label_report(named: NamedScorer, tally: ScoreTally, labels: HandLabels) -> LabelReport:
    """Return what labels say about the scores of a table.

    Raises:
        InputError: a label cannot be compared with the scorer's scores.
    """
    values = tally.values[named.name]
    units = tally.clusters or (tally.keys if len(set(tally.keys)) < len(tally.keys) else [])
    wanted = [_value(named, labels, position) for position in range(len(values))]
    scored = [position for position, value in enumerate(values) if value is not None]
    both = [position for position in scored if wanted[position] is not None]
    scores = np.asarray([values[position] for position in scored], dtype=np.float64)
    mask = np.asarray([wanted[position] is not None for position in scored], dtype=np.bool_)
    given = np.asarray([wanted[position] for position in both], dtype=np.float64)
    clusters = [units[position] for position in both] if units else None
    return LabelReport(
        scorer=named.name,
        column=labels.name,
        labelled=sum(label is not None for label in wanted),
        outdated=labels.outdated,
        agreement=agreement(scores[mask], given, clusters) if both else None,
        by_hand=estimate(given, clusters),
        corrected=corrected_mean(scores, mask, given, [units[position] for position in scored] if units else None),
        scored=len(scored),
    )


def _value(named: NamedScorer, labels: HandLabels, position: int) -> float | None:
    text = labels.texts[position]
    if text is None:
        return None
    value = named.scorer.value_of_label(text)
    if value is None:
        raise InputError(
            f"--labels {labels.name}: row {position} (from 0) has {shortened(text)}, which is not a value of "
            f"{named.name}; expected {named.scorer.expected_labels}"
        )
    return value


def label_lines(reports: Sequence[LabelReport]) -> list[str]:
    """Return the reports as lines for the terminal."""
    return [line for report in reports for line in _lines(report)]


def _lines(report: LabelReport) -> Iterator[str]:
    found = report.agreement
    head = f"{report.scorer} against {report.column}"
    if report.outdated:
        yield f"{head}: {rows_text(report.outdated)} rated with an earlier answer, not used"
    if found is None:
        yield f"{head}: no row has both a label and a score"
        return
    kind = "weighted κ" if found.is_weighted else "κ"
    kappa = f"{kind} undefined, since all are alike"
    if found.kappa is not None and found.low is not None and found.high is not None:
        kappa = f"{kind} {_signed(found.kappa)} ({_signed(found.low)} to {_signed(found.high)})"
    same = found.equal
    yield f"{head}: {_ends(same.mean, same.low, same.high)} equal, {kappa}, {rows_text(same.n)}"
    if missing := report.labelled - same.n:
        yield f"  {rows_text(missing, 'labelled')} without a score, not counted"
    yield from (f"  {line}" for line in _confusion_lines(found))
    hand = report.by_hand
    yield f"  by hand: {_ends(hand.mean, hand.low, hand.high)} of {rows_text(hand.n, 'labelled')}"
    if report.corrected is None:
        yield f"  not corrected for the scorer's errors: that takes {MIN_LABELS} labelled rows or more"
        return
    corrected = report.corrected
    yield (
        f"  corrected for the scorer's errors: {_ends(corrected.mean, corrected.low, corrected.high)} of "
        f"{rows_text(report.scored)}, if the labelled rows were drawn at random"
    )


def _confusion_lines(found: Agreement) -> Iterator[str]:
    """Yield the confusion table; nothing if there are too many values."""
    if not found.confusion:
        return
    values = found.categories
    names = {value: _name(value, is_weighted=found.is_weighted) for value in values}
    rows = [("label", *(f"scored {names[value]}" for value in values))]
    rows += [(names[label], *(f"{found.confusion.get((label, score), 0):,}" for score in values)) for label in values]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        first, *others = row
        yield "  ".join([first.ljust(widths[0]), *map(str.rjust, others, widths[1:])])


def _name(value: float, *, is_weighted: bool) -> str:
    if is_weighted:
        return f"{value:g}"
    return "right" if value else "wrong"


def _ends(mean: float | None, low: float | None, high: float | None) -> str:
    ends = f"({percent(low)} to {percent(high)})" if low is not None else "(no interval)"
    return f"{percent(mean)} {ends}"


def _signed(number: float) -> str:
    return f"{round(number, 2) + 0.0:.2f}".replace("-", "−")  # + 0.0: no negative zero
