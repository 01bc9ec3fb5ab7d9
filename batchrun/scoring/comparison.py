"""Comparison: several tables over the same rows, or the parts of one table, compared in pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from batchrun.errors import InputError
from batchrun.scoring.contender import Contender, total_costs
from batchrun.scoring.matrix import Matrix, matrices_of
from batchrun.scoring.paired_tables import PairedTables
from batchrun.scoring.pairing import DETECTABLE, MAX_GROUPS, Pairing, pair
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
_MAX_ALL_PAIRS = 10


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several tables, or the parts of one, compared.

    Attributes:
        contenders: the tables.
        pairings: every pair of tables by every scorer; with a baseline, each part with it.
        warnings: reasons why the comparison may be unfair, one line each.
        tests: p-values of the pairings, for which Holm's method corrects them.
        group_tests: p-values within groups, for which it corrects these.
        split: the column that splits the table into its parts.
    """

    contenders: Sequence[Contender]
    pairings: Sequence[Pairing]
    warnings: Sequence[str]
    tests: int = 0
    group_tests: int = 0
    split: str | None = None

    @property
    def matrices(self) -> list[Matrix]:
        """The differences of each pair as a matrix for each scorer; empty for two tables, and with a baseline."""
        return matrices_of([each.name for each in self.contenders], self.pairings)

    def facts(self) -> ComparisonFacts:
        """Return the comparison as JSON."""
        return {
            "split": self.split,
            "tables": [each.facts() for each in self.contenders],
            "pairings": [each.facts() for each in self.pairings],
            "matrices": [each.facts() for each in self.matrices],
            "tests": self.tests,
            "group_tests": self.group_tests,
            "warnings": list(self.warnings),
        }


def compare(
    contenders: Sequence[Contender], failed_as: FailedAs, detectable: Sequence[float] = DETECTABLE
) -> Comparison:
    """Compare every pair of tables by every scorer; all p-values together are corrected for their number.

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
    """Compare the parts of a table, one per value of the column `split`: each pair, or each part with `baseline`.

    Of more than 10 parts, each is compared with the first one only, and a warning says so.

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
    if column in table.columns.by:
        raise InputError(f"--by {column}: the column splits the table into the parts that are compared")
    if baseline is not None and baseline not in positions:
        raise InputError(f"--baseline {baseline}: the values of {column!r} are {', '.join(map(repr, positions))}")
    values = list(positions)
    values.sort(key=lambda value: value != baseline)
    parts = [(value or "(empty)", tally.part(positions[value])) for value in values]
    _drop_constant_columns([part for _, part in parts])
    contenders = [Contender(name, part, summarize(part, failed_as), total_costs(part)) for name, part in parts]
    first, *others = contenders
    pairs = list(combinations(contenders, 2))
    notes = []
    if baseline is not None or len(contenders) > _MAX_ALL_PAIRS:
        pairs = [(first, other) for other in others]
    if baseline is None and len(contenders) > _MAX_ALL_PAIRS:
        notes.append(
            f"each of {len(others)} parts is compared with {first.name} only; every pair is compared up to "
            f"{_MAX_ALL_PAIRS} parts"
        )
    if missing := len(tally.splits) - len(kept):
        notes.append(f"{rows_text(missing)} not compared, without a value in {column!r}")
    comparison = _comparison(contenders, pairs, failed_as, detectable)
    return replace(comparison, warnings=[*notes, *comparison.warnings], split=column)


def _filled(cells: Sequence[str]) -> list[int]:
    return [position for position, cell in enumerate(cells) if not is_missing(cell)]


def _drop_constant_columns(parts: Sequence[ScoreTally]) -> None:
    """Reduce the parts' `content_hashes` to the columns with several values within a part."""
    varying = {column for part in parts for column, hashes in part.content_hashes.items() if len(set(hashes)) > 1}
    for part in parts:
        part.content_hashes = {name: hashes for name, hashes in part.content_hashes.items() if name in varying}


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
    by_pair = []
    for two in pairs:
        tables = PairedTables.of(*two)
        warnings += tables.mismatches()
        by_pair.append([pair(tables, scorer, failed_as, detectable) for scorer in two[0].tally.values])
    for column, labels in contenders[0].tally.labels.items():
        if (values := len(set(labels))) > MAX_GROUPS:
            warnings.append(f"{column!r} has {values:,} values; differences are broken down by up to {MAX_GROUPS}")
    pairings = [pairing for of_scorer in zip(*by_pair, strict=True) for pairing in of_scorer]
    # The groups are another family of tests: a look into groups does not change the result over all rows.
    groups = [each for pairing in pairings for labels in pairing.groups.values() for each in labels.values()]
    pairings, tests = _corrected(pairings)
    groups, group_tests = _corrected(groups)
    rest = iter(groups)
    pairings = [
        replace(
            pairing,
            groups={column: {label: next(rest) for label in labels} for column, labels in pairing.groups.items()},
        )
        for pairing in pairings
    ]
    return Comparison(contenders, pairings, warnings, tests, group_tests)


def _corrected(pairings: Sequence[Pairing]) -> tuple[list[Pairing], int]:
    """Return the pairings with Holm's correction over all their p-values, and the number of these."""
    tested = {place: p for place, each in enumerate(pairings) if (p := each.difference.p_value) is not None}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    return [replace(each, corrected_p=corrected.get(place)) for place, each in enumerate(pairings)], len(tested)
