"""Comparisons as text and as Markdown."""

from __future__ import annotations

from batchrun.prompts.combinations import axis_name
from batchrun.scoring.comparison import Comparison
from batchrun.scoring.figure_tables import contender_rows, correction_notes, group_tables, matrix_tables, pairing_table
from batchrun.scoring.figures_text import correlation_text, interval, p_text, pairs_text, signed, some_keys
from batchrun.scoring.pairing import Pairing
from batchrun.scoring.power import RowsNeeded
from batchrun.scoring.text_layout import aligned, md, md_table
from batchrun.wording import rows_text

__all__ = ["comparison_lines", "comparison_markdown"]


_TESTS = {
    "none": "no test",
    "mcnemar": "McNemar's exact test",
    "permutation": "permutation test",
    "paired t": "paired t-test",
    "clustered t": "t-test over clusters",
}


def comparison_lines(comparison: Comparison) -> list[str]:
    """Return a comparison as lines for the terminal."""
    lines = [f"warning: {line}" for line in comparison.warnings]
    lines += aligned(contender_rows(comparison))
    for table in matrix_tables(comparison):
        lines += ["", table.title, *(f"  {line}" for line in aligned([table.head, *table.rows]))]
    for pairing in comparison.pairings:
        lines += ["", *_pairing_lines(pairing, comparison)]
    if notes := correction_notes(comparison):
        lines += ["", *notes]
    return lines


def comparison_markdown(comparison: Comparison) -> str:
    """Return a comparison as Markdown for a pull request."""
    parts = ["### Comparison", ""]
    parts += [f"> ⚠️ {md(line)}\n" for line in comparison.warnings]
    parts += md_table(contender_rows(comparison))
    pairings = pairing_table(comparison)
    parts += ["", *md_table([pairings.head, *pairings.rows])]
    for table in (*matrix_tables(comparison), *group_tables(comparison)):
        parts += ["", f"**{md(table.title)}**", "", *md_table([table.head, *table.rows])]
    parts += ["", *(f"{md(line)}\n" for line in correction_notes(comparison))]
    return "\n".join(parts).rstrip() + "\n"


def _pairing_lines(pairing: Pairing, comparison: Comparison) -> list[str]:
    estimate = pairing.difference.estimate
    lines = [f"{pairing.scorer}: {pairing.second} against {pairing.first}, {pairs_text(pairing.pairs)}"]
    if pairing.unpaired:
        lines.append(
            f"  {rows_text(pairing.unpaired)} of {pairing.second} not paired, without a score in one of the tables"
        )
    lines.append(f"  difference {signed(estimate.mean)} {interval(estimate, signed=True)}")
    lines += [f"    {estimate.note}"] if estimate.note else []
    p_values = _p_values(pairing, comparison.tests)
    lines.append(f"  {_TESTS[pairing.difference.test]}: {', '.join(p_values)}")
    if pairing.correlation is not None:
        lines.append(f"  correlation of the scores {correlation_text(pairing.correlation)}")
    lines.append(f"  {rows_text(len(pairing.better))} better{some_keys(pairing.better)}")
    lines.append(f"  {rows_text(len(pairing.worse))} worse{some_keys(pairing.worse)}")
    if pairing.rows_needed:
        lines.append(f"  {_detectable(pairing)}")
        lines.append(f"  rows to show a difference: {_rows_needed(pairing)}")
    for column, groups in pairing.groups.items():
        rows = [_group_cells(label, each, comparison.group_tests) for label, each in groups.items()]
        lines += [f"  by {axis_name(column)}:", *(f"    {line}" for line in aligned(rows))]
    return lines


def _p_values(pairing: Pairing, tests: int) -> list[str]:
    corrected = [f"{p_text(pairing.corrected_p)} after Holm"] if tests > 1 else []
    return [p_text(pairing.difference.p_value), *corrected]


def _group_cells(label: str, pairing: Pairing, tests: int) -> tuple[str, ...]:
    estimate = pairing.difference.estimate
    difference = f"{signed(estimate.mean)} {interval(estimate, signed=True)}"
    unpaired = f"{rows_text(pairing.unpaired)} not paired" if pairing.unpaired else ""
    return (label or "(empty)", difference, pairs_text(pairing.pairs), ", ".join(_p_values(pairing, tests)), unpaired)


def _detectable(pairing: Pairing) -> str:
    if pairing.detectable is None:
        return "too few pairs to show a difference of any size (80 % power, 5 % level)"
    return f"these pairs show a difference of {pairing.detectable:.4f} or more (80 % power, 5 % level)"


def _rows_needed(pairing: Pairing) -> str:
    return ", ".join(f"{_rows(needed)} for {size:g}" for size, needed in pairing.rows_needed.items())


def _rows(needed: RowsNeeded) -> str:
    text = f"{needed.rows:,}"
    return text if needed.low is None or needed.high is None else f"{text} ({needed.low:,} to {needed.high:,})"
