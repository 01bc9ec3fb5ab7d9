"""Scores and comparisons as tables of text, which Markdown and notebooks show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batchrun.prompts.combinations import axis_name
from batchrun.scoring.bars import Bar
from batchrun.scoring.comparison import Comparison
from batchrun.scoring.contender import Contender
from batchrun.scoring.figures_text import correlation_text, counts_text, interval, p_text, percent, signed
from batchrun.scoring.pairing import Pairing
from batchrun.scoring.summary import Figures, ScoreSummary
from batchrun.wording import counted, dollars, duration, rows_text

__all__ = [
    "TextTable",
    "bar_table",
    "contender_rows",
    "correction_notes",
    "group_tables",
    "matrix_tables",
    "pairing_table",
    "score_tables",
]

_FIGURES = ("mean", "95 % interval", "scored", "failed", "not judged", "unfinished", "skipped")
_PAIRING = ("pairs", "difference", "95 % interval", "p", "p after Holm", "correlation", "better", "worse", "not paired")


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of text.

    Attributes:
        title: what it shows.
        head: names of the columns.
        rows: cells; the first one names its row.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def score_tables(title: str, summaries: Sequence[ScoreSummary]) -> list[TextTable]:
    """Return the figures of every scorer, then a table for each scorer and column that they are broken down by."""
    tables = [TextTable(title, ("scorer", *_FIGURES), [(each.name, *_cells(each.overall)) for each in summaries])]
    for summary in summaries:
        for column, groups in summary.groups.items():
            rows = [(label or "(empty)", *_cells(figures)) for label, figures in groups.items()]
            tables.append(TextTable(f"{summary.name} by {axis_name(column)}", (axis_name(column), *_FIGURES), rows))
    return tables


def bar_table(bars: Sequence[Bar]) -> TextTable:
    """Return the bars with their results."""
    rows = [(bar.name, "passed" if bar.passed else "FAILED", bar.found) for bar in bars]
    return TextTable("Bars", ("bar", "result", "found"), rows)


def contender_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return a row of names, then one row for each table: its means, its costs and its times."""
    scorers = (each.name for each in comparison.contenders[0].summaries)
    head = (axis_name(comparison.split or "table"), *scorers, "cost", "median", "95 %", "tokens")
    return [head, *map(_contender_cells, comparison.contenders)]


def pairing_table(comparison: Comparison) -> TextTable:
    """Return a row for each pairing: its difference, its p-values and the rows that flipped."""
    rows = [(each.scorer, each.first, each.second, *_pairing_cells(each)) for each in comparison.pairings]
    return TextTable("Differences, second minus first", ("scorer", "first", "second", *_PAIRING), rows)


def group_tables(comparison: Comparison) -> list[TextTable]:
    """Return a table for each pairing and column of `--by`: its differences within groups."""
    return [
        TextTable(
            f"{pairing.scorer}: {pairing.second} against {pairing.first} by {axis_name(column)}",
            (axis_name(column), *_PAIRING),
            [(label or "(empty)", *_pairing_cells(each)) for label, each in groups.items()],
        )
        for pairing in comparison.pairings
        for column, groups in pairing.groups.items()
    ]


def matrix_tables(comparison: Comparison) -> list[TextTable]:
    """Return the differences of each pair of three or more tables, one table for each scorer."""
    return [
        TextTable(
            f"{matrix.scorer}: difference of the means, row minus column (* p < 0.05 after Holm)",
            ("", *matrix.tables),
            [
                (name, *map(_matrix_cell, differences, p_values))
                for name, differences, p_values in zip(
                    matrix.tables, matrix.differences, matrix.corrected_p, strict=True
                )
            ],
        )
        for matrix in comparison.matrices
    ]


def _matrix_cell(difference: float | None, p_value: float | None) -> str:
    return signed(difference) + (" *" if p_value is not None and p_value < 0.05 else "")


def correction_notes(comparison: Comparison) -> list[str]:
    """Return a line for each family of p-values that Holm's method corrects."""
    scorers = len(comparison.contenders[0].summaries)
    pairs = len(comparison.pairings) // scorers if scorers else 0
    notes = []
    if comparison.tests > 1:
        family = (
            f"{counted(scorers, 'scorer')}, {counted(pairs, 'pair')} of {'parts' if comparison.split else 'tables'}"
        )
        notes.append(f"Holm's correction is over the {comparison.tests:,} p-values of this comparison: {family}")
    if comparison.group_tests > 1:
        notes.append(f"within groups, Holm's correction is over the {comparison.group_tests:,} p-values of all groups")
    return notes


def _pairing_cells(each: Pairing) -> tuple[str, ...]:
    return (
        f"{each.pairs:,}",
        signed(each.difference.estimate.mean),
        interval(each.difference.estimate, signed=True).strip("()"),
        p_text(each.difference.p_value),
        p_text(each.corrected_p),
        correlation_text(each.correlation),
        f"{len(each.better):,}",
        f"{len(each.worse):,}",
        f"{each.unpaired:,}",
    )


def _cells(figures: Figures) -> tuple[str, ...]:
    estimate = figures.estimate
    ends = f"{percent(estimate.low)} to {percent(estimate.high)}" if estimate.low is not None else "–"
    counts = (estimate.n, figures.failed, figures.unjudged, figures.unfinished, figures.skipped)
    return percent(estimate.mean), ends, *(f"{count:,}" for count in counts)


def _contender_cells(each: Contender) -> tuple[str, ...]:
    costs = each.costs
    cost = "–"
    if costs.cost_usd is not None:
        cost = dollars(costs.cost_usd)
        if costs.priced < costs.rows:
            cost += f" ({costs.priced:,} of {rows_text(costs.rows)})"
    times = (duration(seconds) if seconds is not None else "–" for seconds in (costs.median_s, costs.p95_s))
    tokens = "–" if costs.tokens is None else f"{costs.tokens:,.0f}"
    return (each.name, *(_mean_cell(summary.overall) for summary in each.summaries), cost, *times, tokens)


def _mean_cell(figures: Figures) -> str:
    counts = counts_text(figures)
    return percent(figures.mean) + (f" ({counts})" if counts else "")
