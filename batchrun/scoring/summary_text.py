"""Summaries and comparisons as text and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from batchrun.prompts.combinations import axis_name
from batchrun.scoring.bars import Bar
from batchrun.scoring.comparison import Comparison
from batchrun.scoring.figure_tables import contender_rows, pairing_table, score_tables
from batchrun.scoring.figures_text import counts_text, interval, p_text, percent, signed
from batchrun.scoring.pairing import Pairing
from batchrun.scoring.statistics import Estimate
from batchrun.scoring.summary import Epochs, Figures, ScoreSummary
from batchrun.wording import rows_text

__all__ = [
    "bar_lines",
    "comparison_lines",
    "comparison_markdown",
    "left_out",
    "mean_text",
    "score_lines",
    "score_markdown",
]

_MAX_KEYS = 10


def score_lines(summaries: Sequence[ScoreSummary], incomplete: int) -> list[str]:
    """Return the summaries of a table as lines for the terminal."""
    lines = []
    for summary in summaries:
        lines.append(f"{summary.name}  {_estimate_text(summary.overall.estimate)}")
        lines += [f"  {line}" for line in left_out(summary)]
        for column, groups in summary.groups.items():
            lines.append(f"  by {axis_name(column)}:")
            rows = [(label or "(empty)", *_group_cells(figures)) for label, figures in groups.items()]
            lines += [f"    {line}" for line in _aligned(rows)]
        lines += [f"  {line}" for line in _epoch_lines(summary)]
    if incomplete:
        lines.append(f"{incomplete:,} answers were cut short; they are scored like the others")
    return lines


def bar_lines(bars: Sequence[Bar]) -> list[str]:
    """Return the bars as lines for the terminal."""
    return [f"{'passed' if bar.passed else 'FAILED'}  {bar.name}: {bar.found}" for bar in bars]


def comparison_lines(comparison: Comparison) -> list[str]:
    """Return a comparison as lines for the terminal."""
    lines = [f"warning: {line}" for line in comparison.warnings]
    lines += _aligned(contender_rows(comparison))
    several = len(comparison.contenders) > 2
    for pairing in comparison.pairings:
        estimate = pairing.difference.estimate
        lines.append("")
        lines.append(f"{pairing.scorer}: {pairing.second} against {pairing.first}, {pairing.pairs:,} pairs")
        if pairing.unpaired:
            lines.append(
                f"  {rows_text(pairing.unpaired)} of {pairing.second} not paired, without a score in one of the tables"
            )
        lines.append(f"  difference {signed(estimate.mean)} {interval(estimate, signed=True)}")
        corrected = f", {p_text(pairing.corrected_p)} after Holm" if several else ""
        lines.append(f"  {_TESTS[pairing.difference.test]}: {p_text(pairing.difference.p_value)}{corrected}")
        lines.append(f"  {rows_text(len(pairing.better))} better{_some(pairing.better)}")
        lines.append(f"  {rows_text(len(pairing.worse))} worse{_some(pairing.worse)}")
        if pairing.rows_needed:
            lines.append(f"  to detect a difference (80 % power, 5 % level): {_rows_needed(pairing)}")
    return lines


def score_markdown(title: str, summaries: Sequence[ScoreSummary], bars: Sequence[Bar]) -> str:
    """Return the summaries of a table, and its bars, as Markdown for a pull request."""
    parts = [f"### Scores of {_md(title)}", ""]
    if bars:
        rows = [("✅" if bar.passed else "❌", bar.name, bar.found) for bar in bars]
        parts += [*_md_table([("", "bar", "found"), *rows]), ""]
    figures, *groups = score_tables(title, summaries)
    parts += _md_table([figures.head, *figures.rows])
    parts += ["", *(f"- {_md(summary.name)}: {_md(line)}" for summary in summaries for line in left_out(summary))]
    for table in groups:
        parts += ["", f"**{_md(table.title)}**", "", *_md_table([table.head, *table.rows])]
    return "\n".join(parts).rstrip() + "\n"


def comparison_markdown(comparison: Comparison) -> str:
    """Return a comparison as Markdown for a pull request."""
    parts = ["### Comparison", ""]
    parts += [f"> ⚠️ {_md(line)}\n" for line in comparison.warnings]
    parts += _md_table(contender_rows(comparison))
    pairings = pairing_table(comparison)
    return "\n".join([*parts, "", *_md_table([pairings.head, *pairings.rows])]) + "\n"


_TESTS = {
    "none": "no test",
    "mcnemar": "McNemar's exact test",
    "permutation": "permutation test",
    "paired t": "paired t-test",
    "clustered t": "t-test over clusters",
}


def _estimate_text(estimate: Estimate) -> str:
    if estimate.mean is None:
        return "no row has a score"
    grouped = ""
    if estimate.clusters is not None:
        grouped = " in 1 cluster" if estimate.clusters == 1 else f" in {estimate.clusters:,} clusters"
    return f"{mean_text(estimate)}  of {rows_text(estimate.n)}{grouped}"


def mean_text(estimate: Estimate) -> str:
    """Return a mean in percent with its interval."""
    ends = f"({percent(estimate.low)} to {percent(estimate.high)})" if estimate.low is not None else "(no interval)"
    return f"{percent(estimate.mean)}  {ends}"


def _epoch_lines(summary: ScoreSummary) -> list[str]:
    """Return pass@k and pass^k; if they would mix different rows, a line with the reason."""
    epochs = summary.overall.epochs
    if epochs is None:
        if summary.duplicate is None:
            return []
        return [f"no pass@k: several rows are {summary.duplicate}; separate them with --by, or with compare --split"]
    rows = [
        (f"pass@{k}", mean_text(epochs.pass_at_k[k]), f"pass^{k}", mean_text(epochs.pass_hat_k[k]))
        for k in epochs.pass_at_k
    ]
    return [
        f"{_rows_of(epochs)}, {_epoch_range(epochs)} epochs each:",
        *(f"  {line}" for line in _aligned(rows)),
    ]


def _rows_of(epochs: Epochs) -> str:
    """Return `60 rows × 2 models`; if some of these have no score, the number of all that have one."""
    variants, rest = divmod(epochs.keys, epochs.rows)
    if not epochs.axes:
        return rows_text(epochs.keys)
    kind = "models" if epochs.axes == ("axis_model",) else f"combinations of {', '.join(map(axis_name, epochs.axes))}"
    if rest:
        return f"{rows_text(epochs.rows)} with several {kind}, {epochs.keys:,} in all"
    return f"{rows_text(epochs.rows)} × {variants:,} {kind}"


def _epoch_range(epochs: Epochs) -> str:
    return f"{epochs.fewest}" if epochs.fewest == epochs.most else f"{epochs.fewest} to {epochs.most}"


def left_out(summary: ScoreSummary) -> list[str]:
    """Return a line for each kind of row that is not in the mean, or counts as 0."""
    figures, lines = summary.overall, []
    countable = figures.failed - figures.failed_without_target
    if countable and summary.failed_as == "skip":
        one, are = ("it", "is") if countable == 1 else ("them", "are")
        lines.append(f"{rows_text(countable, 'failed')} {are} not counted (--failed-as wrong counts {one} as 0)")
    elif countable:
        lines.append(f"{rows_text(countable, 'failed')} counted as 0")
    if figures.failed_without_target:
        lines.append(f"{rows_text(figures.failed_without_target, 'failed')} without a target, not counted")
    if figures.unfinished:
        lines.append(f"{rows_text(figures.unfinished)} without an answer yet, not counted")
    lines += [f"{rows_text(count)} cannot be judged: {reason}" for reason, count in summary.reasons.items()]
    if figures.skipped:
        lines.append(f"{rows_text(figures.skipped)} skipped, not counted")
    return lines


def _group_cells(figures: Figures) -> tuple[str, ...]:
    estimate = figures.estimate
    details = [text] if (text := counts_text(figures)) else []
    if figures.epochs is not None:
        k = figures.epochs.most
        at_k, hat_k = figures.epochs.pass_at_k[k], figures.epochs.pass_hat_k[k]
        details.append(f"pass@{k} {percent(at_k.mean)}, pass^{k} {percent(hat_k.mean)}")
    return mean_text(estimate) if estimate.mean is not None else "–", rows_text(estimate.n), ", ".join(details)


def _some(keys: Sequence[str]) -> str:
    if not keys:
        return ""
    more = f" and {len(keys) - _MAX_KEYS:,} more (--json lists them)" if len(keys) > _MAX_KEYS else ""
    return f": {', '.join(keys[:_MAX_KEYS])}{more}"


def _rows_needed(pairing: Pairing) -> str:
    return ", ".join(f"{rows_text(rows)} for {size:g}" for size, rows in pairing.rows_needed.items())


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _md(text: str) -> str:
    """Return text from a table as one line of Markdown without markup or HTML."""
    for mark in "\\`*_[]<>|#&":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def _md_table(rows: Iterable[Sequence[str]]) -> list[str]:
    head, *rest = [f"| {' | '.join(map(_md, row))} |" for row in rows]
    return [head, f"|{' --- |' * (head.count(' | ') + 1)}", *rest]
