"""Comparison: several tables over the same rows, or the parts of one table, compared in pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from batchrun.errors import InputError
from batchrun.scoring.contender import Contender, total_costs
from batchrun.scoring.pairing import DETECTABLE, Pairing, mismatches, pair
from batchrun.scoring.score_facts import ComparisonFacts
from batchrun.scoring.score_options import FailedAs
from batchrun.scoring.score_tally import ScoreTally
from batchrun.scoring.scorers.base import is_missing
from batchrun.scoring.statistics import holm
from batchrun.scoring.summary import duplicate_epoch, summarize
from batchrun.scoring.table import ScoredTable
from batchrun.wording import rows_text

__all__ = ["Comparison", "compare", "compare_parts"]

_MAX_PARTS = 50


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several tables, or the parts of one, compared.

    Attributes:
        contenders: the tables.
        pairings: every pair of tables by every scorer; for the parts of one table, each part with the first.
        warnings: reasons why the comparison may be unfair, one line each.
        split: the column that splits the table into its parts.
    """

    contenders: Sequence[Contender]
    pairings: Sequence[Pairing]
    warnings: Sequence[str]
    split: str | None = None

    def facts(self) -> ComparisonFacts:
        """Return the comparison as JSON."""
        return {
            "split": self.split,
            "tables": [each.facts() for each in self.contenders],
            "pairings": [each.facts() for each in self.pairings],
            "warnings": list(self.warnings),
        }


def compare(
    contenders: Sequence[Contender], failed_as: FailedAs, detectable: Sequence[float] = DETECTABLE
) -> Comparison:
    """Compare every pair of tables by every scorer; the p-values of a scorer are corrected for the number of pairs.

    Args:
        contenders: two or more, scored by the same scorers.
        failed_as: how failed rows count.
        detectable: differences for which the required number of rows is computed.

    Raises:
        InputError: two tables share no row.
    """
    return _comparison(contenders, list(combinations(contenders, 2)), failed_as, detectable)


def compare_parts(
    table: ScoredTable,
    tally: ScoreTally,
    failed_as: FailedAs,
    detectable: Sequence[float] = DETECTABLE,
    baseline: str | None = None,
) -> Comparison:
    """Compare the parts of a table, one per value of the column `split`: each with the first, or with `baseline`.

    Columns that have a single value within each part, such as a prompt's text next to its name, belong to the setting
    that is compared. They are not reported as a mismatch.

    Args:
        table: with `columns.split`; its rows are paired by their key, or without a key column by their contents.
        tally: of the table, for comparisons.
        failed_as: how failed rows count.
        detectable: differences for which the required number of rows is computed.
        baseline: a value of the column.

    Raises:
        InputError: the column has a single value, or very many, or not that of the baseline; or two parts share no row.
    """
    column = table.columns.split or ""
    # Every row has a value on an axis: an empty cell is one of them.
    kept = range(len(tally.splits)) if column in table.axis_columns else _filled(tally.splits)
    positions: dict[str, list[int]] = defaultdict(list)
    for position in kept:
        positions[tally.splits[position]].append(position)
    if not 2 <= len(positions) <= _MAX_PARTS:
        raise InputError(
            f"--split {column}: 2 to {_MAX_PARTS} different values are expected, {table.source.name} has "
            f"{len(positions):,}"
        )
    if baseline is not None and baseline not in positions:
        raise InputError(f"--baseline {baseline}: the values of {column!r} are {', '.join(map(repr, positions))}")
    values = list(positions)
    values.sort(key=lambda value: value != baseline)
    parts = [(value or "(empty)", tally.part(positions[value])) for value in values]
    columns = _varying_columns(table.own_columns, [part for _, part in parts])
    contenders = [Contender(name, columns, part, summarize(part, failed_as), total_costs(part)) for name, part in parts]
    first, *others = contenders
    comparison = _comparison(contenders, [(first, other) for other in others], failed_as, detectable)
    missing = len(tally.splits) - len(kept)
    left_out = [f"{rows_text(missing)} not compared, without a value in {column!r}"] if missing else []
    return replace(comparison, warnings=[*left_out, *comparison.warnings], split=column)


def _filled(cells: Sequence[str]) -> list[int]:
    return [position for position, cell in enumerate(cells) if not is_missing(cell)]


def _varying_columns(columns: Sequence[str], parts: Sequence[ScoreTally]) -> tuple[str, ...]:
    """Return the columns with several values within a part, and reduce the parts' `content_hashes` to them."""
    places = [
        place
        for place in range(len(columns))
        if any(len({row[place] for row in part.content_hashes}) > 1 for part in parts)
    ]
    for part in parts:
        part.content_hashes = [tuple(row[place] for place in places) for row in part.content_hashes]
    return tuple(columns[place] for place in places)


def _comparison(
    contenders: Sequence[Contender],
    pairs: Sequence[tuple[Contender, Contender]],
    failed_as: FailedAs,
    detectable: Sequence[float],
) -> Comparison:
    warnings = [
        f"several rows of {each.name} are {duplicate}: they enter with their mean"
        for each in contenders
        if (duplicate := duplicate_epoch(each.tally)) is not None
    ]
    for first, second in pairs:
        warnings += mismatches(first, second)
    pairings: list[Pairing] = []
    for scorer in contenders[0].tally.values:
        of_scorer = [pair(*two, scorer, failed_as, detectable) for two in pairs]
        p_values = {
            index: each.difference.p_value
            for index, each in enumerate(of_scorer)
            if each.difference.p_value is not None
        }
        corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
        pairings += [replace(each, corrected_p=corrected.get(index)) for index, each in enumerate(of_scorer)]
    return Comparison(contenders, pairings, warnings)
