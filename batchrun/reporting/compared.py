"""The comparison on a page: of two tables, or of the parts of one, with the rows that got better or worse."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from batchrun.errors import InputError
from batchrun.on_disk.spool import Spool
from batchrun.records import Cells
from batchrun.reporting.rows import ReportRow
from batchrun.scoring.comparison import compare, compare_parts
from batchrun.scoring.contender import contender
from batchrun.scoring.score_facts import ComparisonFacts, PairingFacts
from batchrun.scoring.score_options import FailedAs
from batchrun.scoring.score_tally import ScoreTally
from batchrun.scoring.scorers.base import Score, as_text
from batchrun.scoring.table import ScoredTable

__all__ = ["Parts", "compared_parts", "compared_tables", "parts_of", "score_values", "with_split_as_axis"]

_MAX_UNASKED: Final = 10
"""Most parts of a batch's axis that are compared although no option asks for it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a table that are compared.

    Attributes:
        column: the column with one value for each part.
        is_asked: whether an option asks for it; else the table has several values on an axis of its batch.
    """

    column: str
    is_asked: bool


def parts_of(table: ScoredTable) -> tuple[ScoredTable, Parts | None]:
    """Return the table as it is scored, and the parts that are compared; None if there are none.

    The column `--split` splits the table; without it the batch's only axis, or that of the models. The scores of an
    axis keep it, so that the rows of two models are not taken for epochs of one row.
    """
    split = table.columns.split
    if split is None:
        axes = table.axis_columns
        column = axes[0] if len(axes) == 1 else "axis_model"
        return table, Parts(column, is_asked=False) if table.scorers and column in axes else None
    if split in table.axis_columns:
        table = replace(table, columns=replace(table.columns, split=None))
    return table, Parts(split, is_asked=True)


def compared_parts(
    rows: Sequence[ReportRow], table: ScoredTable, tally: ScoreTally, parts: Parts, failed_as: FailedAs
) -> tuple[Mapping[int, Cells], ComparisonFacts | None, list[str]]:
    """Return the answers and scores of flipped rows in the first part, by position; the comparison; and notes.

    Args:
        rows: of the table.
        table: see `parts_of`.
        tally: of the table, for comparisons.

    Raises:
        InputError: the parts cannot be compared although an option asks for it.
    """
    by = tuple(name for name in table.columns.by if name != parts.column)
    split_table = replace(table, columns=replace(table.columns, split=parts.column, by=by))
    split_tally = _split_tally(tally, parts.column)
    values = set(split_tally.splits)
    if not parts.is_asked and not 2 <= len(values) <= _MAX_UNASKED:
        return {}, None, []
    try:
        facts = compare_parts(split_table, split_tally, failed_as).facts()
    except InputError as exc:
        if parts.is_asked:
            raise
        return {}, None, [f"The values of {parts.column!r} are not compared: {exc}."]
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for position, (value, key) in enumerate(zip(split_tally.splits, tally.keys, strict=True)):
        places[value or "(empty)", key].append(position)
    before: dict[int, Cells] = {}
    first_part = facts["tables"][0]["table"]
    for pairing in facts["pairings"]:
        for first, second in _add_positions(pairing, places):
            if pairing["first"] == first_part:
                row = rows[first]
                before[second] = {"response": as_text(row.cells["response"]), "scores": dict(row.scores)}
    return before, facts, []


def with_split_as_axis(tally: ScoreTally, column: str | None) -> ScoreTally:
    """Return the tally for figures of the whole table, in which rows of two parts are not epochs of one row.

    Args:
        column: the column that splits the table; None if there is none.
    """
    if column is None:
        return tally
    variants = tally.variants or [()] * len(tally.splits)
    return replace(
        tally,
        axes=(column, *tally.axes),
        variants=[(value, *variant) for value, variant in zip(tally.splits, variants, strict=True)],
    )


def _split_tally(tally: ScoreTally, column: str) -> ScoreTally:
    """Return the tally with the values of a column as its splits; they may be in it as those of an axis."""
    tally = replace(tally, labels={name: labels for name, labels in tally.labels.items() if name != column})
    if column not in tally.axes:
        return tally
    place = tally.axes.index(column)
    return replace(
        tally,
        splits=[variant[place] for variant in tally.variants],
        axes=tuple(name for name in tally.axes if name != column),
        variants=[variant[:place] + variant[place + 1 :] for variant in tally.variants] if len(tally.axes) > 1 else [],
    )


def _add_positions(pairing: PairingFacts, places: Mapping[tuple[str, str], list[int]]) -> list[tuple[int, int]]:
    """Add the positions of the flipped rows, and return those in the first and the second part."""

    def positions(keys: Sequence[str]) -> list[tuple[int, int]]:
        return [
            both
            for key in keys
            for both in zip(places[pairing["first"], key], places[pairing["second"], key], strict=False)
        ]

    better, worse = positions(pairing["better"]), positions(pairing["worse"])
    pairing["better_rows"], pairing["worse_rows"] = [second for _, second in better], [second for _, second in worse]
    pairing["better_first"], pairing["worse_first"] = [first for first, _ in better], [first for first, _ in worse]
    return better + worse


def compared_tables(
    table: ScoredTable, tally: ScoreTally, baseline: ScoredTable, failed_as: FailedAs
) -> tuple[Mapping[int, Cells], ComparisonFacts]:
    """Return the answers and scores of flipped rows in the baseline, by position, and the comparison.

    Raises:
        InputError: the baseline cannot be read or scored, or shares no row.
    """
    baseline_tally = ScoreTally()
    baseline_rows = Spool()
    for row, scores in baseline.scored(baseline_tally, for_comparison=True):
        response = as_text(row.values[baseline.columns.answer or ""])
        baseline_rows.append({"response": response, "scores": score_values(baseline, scores)})
    contenders = [contender(baseline, failed_as, baseline_tally), contender(table, failed_as, tally)]
    facts = compare(contenders, failed_as).facts()
    flipped = {key for each in facts["pairings"] for key in (*each["better"], *each["worse"])}
    positions, places = _positions(tally.keys, flipped), _positions(baseline_tally.keys, flipped)
    before: dict[int, Cells] = {}
    for pairing in facts["pairings"]:
        pairing["better_rows"] = [position for key in pairing["better"] for position in positions[key]]
        pairing["worse_rows"] = [position for key in pairing["worse"] for position in positions[key]]
        for key in (*pairing["better"], *pairing["worse"]):
            for position, place in zip(positions[key], places[key], strict=False):
                before[position] = baseline_rows[place]
    return before, facts


def _positions(keys: Sequence[str], chosen: Collection[str]) -> dict[str, list[int]]:
    """Return key → positions of the rows that have it, for some keys."""
    found: dict[str, list[int]] = {key: [] for key in chosen}
    for position, key in enumerate(keys):
        if key in found:
            found[key].append(position)
    return found


def score_values(table: ScoredTable, scores: Sequence[Score | None]) -> dict[str, float | None]:
    """Return scorer → value of a row's scores."""
    return {
        named.name: None if score is None else score.value for named, score in zip(table.scorers, scores, strict=True)
    }
