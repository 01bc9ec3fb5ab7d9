"""Contender: a scored table, or a part of one, in a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from batchrun.scoring.score_facts import ContenderFacts
from batchrun.scoring.score_options import FailedAs
from batchrun.scoring.score_tally import RowCosts, ScoreTally
from batchrun.scoring.summary import ScoreSummary, summarize
from batchrun.scoring.table import ScoredTable

__all__ = ["Contender", "TotalCosts", "contender", "total_costs"]


@dataclass(frozen=True, slots=True)
class TotalCosts:
    """The costs of a table over all its rows.

    Attributes:
        rows: number of rows.
        cost_usd: sum in US dollars; None if no row's cost is known.
        priced: rows whose cost is known.
        median_s, p95_s: quantiles of the rows' durations, in seconds; None if none is known.
        tokens: sum over the rows with known tokens; None without such a row.
    """

    rows: int
    cost_usd: float | None
    priced: int
    median_s: float | None
    p95_s: float | None
    tokens: float | None


@dataclass(frozen=True, slots=True)
class Contender:
    """A scored table, or a part of one, in a comparison.

    Attributes:
        name: the file as given; for a part, its value in the column that splits the table.
        tally: the rows' scores; its keys are filled.
        summaries: one per scorer.
        costs: costs over all rows.
    """

    name: str
    tally: ScoreTally
    summaries: Sequence[ScoreSummary]
    costs: TotalCosts

    def facts(self) -> ContenderFacts:
        """Return scores and costs as JSON."""
        return {
            "table": self.name,
            "scores": [summary.facts() for summary in self.summaries],
            "rows": self.costs.rows,
            "cost_usd": self.costs.cost_usd,
            "rows_with_cost": self.costs.priced,
            "median_duration_s": self.costs.median_s,
            "p95_duration_s": self.costs.p95_s,
            "total_tokens": self.costs.tokens,
        }


def contender(
    table: ScoredTable, failed_as: FailedAs, tally: ScoreTally | None = None, like: ScoreTally | None = None
) -> Contender:
    """Score a table for a comparison.

    Args:
        table: with a key column.
        failed_as: how failed rows count.
        tally: the table's tally for comparisons if it is scored already; None scores it.
        like: the tally of the table that it is compared with, if that is scored already.

    Raises:
        InputError: a row has no key, or a scorer refuses the table.
    """
    tally = table.tally(for_comparison=True, like=like) if tally is None else tally
    costs = total_costs(tally)
    tally = replace(tally, costs=RowCosts())  # the costs of single rows are not compared
    return Contender(table.source.name, tally, summarize(tally, failed_as), costs)


def total_costs(tally: ScoreTally) -> TotalCosts:
    """Return the costs over all rows of a tally."""
    durations_s = tally.costs.duration_s.known
    median_s, p95_s = np.quantile(durations_s, [0.5, 0.95]).tolist() if len(durations_s) else (None, None)
    priced, with_tokens = len(tally.costs.cost_usd.known), len(tally.costs.tokens.known)
    return TotalCosts(
        rows=len(tally.kinds) - tally.kinds.count("skipped"),
        cost_usd=sum(each for each in tally.costs.cost_usd if each is not None) if priced else None,
        priced=priced,
        median_s=median_s,
        p95_s=p95_s,
        tokens=sum(each for each in tally.costs.tokens if each is not None) if with_tokens else None,
    )
