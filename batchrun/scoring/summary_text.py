"""Summaries of a table as text and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from batchrun.prompts.combinations import axis_name
from batchrun.scoring.bars import Bar
from batchrun.scoring.figure_tables import score_tables
from batchrun.scoring.figures_text import counts_text, percent
from batchrun.scoring.statistics import Estimate
from batchrun.scoring.summary import Epochs, Figures, ScoreSummary
from batchrun.scoring.text_layout import aligned, md, md_table
from batchrun.scoring.variance import VarianceSplit
from batchrun.wording import rows_text

__all__ = [
    "bar_lines",
    "cut_short_line",
    "figure_notes",
    "mean_text",
    "score_lines",
    "score_markdown",
]


def score_lines(summaries: Sequence[ScoreSummary], incomplete: int) -> list[str]:
    """Return the summaries of a table as lines for the terminal."""
    lines = []
    for summary in summaries:
        lines.append(f"{summary.name}  {_estimate_text(summary.overall.estimate)}")
        lines += [f"  {line}" for line in figure_notes(summary)]
        for column, groups in summary.groups.items():
            lines.append(f"  by {axis_name(column)}:")
            rows = [(label or "(empty)", *_group_cells(figures)) for label, figures in groups.items()]
            lines += [f"    {line}" for line in aligned(rows)]
        lines += [f"  {line}" for line in _epoch_lines(summary)]
    if incomplete:
        lines.append(cut_short_line(incomplete))
    return lines


def cut_short_line(number: int) -> str:
    """Return a line about answers that were cut short."""
    if number == 1:
        return "1 answer was cut short; it is treated like the others"
    return f"{number:,} answers were cut short; they are treated like the others"


def bar_lines(bars: Sequence[Bar]) -> list[str]:
    """Return the bars as lines for the terminal."""
    return [f"{'passed' if bar.passed else 'FAILED'}  {bar.name}: {bar.found}" for bar in bars]


def score_markdown(title: str, summaries: Sequence[ScoreSummary], bars: Sequence[Bar]) -> str:
    """Return the summaries of a table, and its bars, as Markdown for a pull request."""
    parts = [f"### Scores of {md(title)}", ""]
    if bars:
        rows = [("✅" if bar.passed else "❌", bar.name, bar.found) for bar in bars]
        parts += [*md_table([("", "bar", "found"), *rows]), ""]
    figures, *groups = score_tables(title, summaries)
    parts += md_table([figures.head, *figures.rows])
    parts += ["", *(f"- {md(summary.name)}: {md(line)}" for summary in summaries for line in figure_notes(summary))]
    for table in groups:
        parts += ["", f"**{md(table.title)}**", "", *md_table([table.head, *table.rows])]
    return "\n".join(parts).rstrip() + "\n"


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
        *(f"  {line}" for line in aligned(rows)),
    ]


def _variance_text(variance: VarianceSplit) -> str:
    """Return how the variance is split, and whether another epoch or more rows would narrow the interval."""
    shares = f"{percent(variance.share_between)} between rows, {percent(1 - variance.share_between)} between epochs"
    return (
        f"variance: {shares} of a row; one more epoch would narrow the interval by {percent(variance.another_epoch)}, "
        f"as many requests for new rows by {percent(variance.more_rows)}"
    )


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


def figure_notes(summary: ScoreSummary) -> list[str]:
    """Return why the interval is not exact, the split of the variance over epochs, and a line for each kind of row that
    is not in the mean, or counts as 0."""
    figures, lines = summary.overall, []
    if figures.estimate.note:
        lines.append(figures.estimate.note)
    if figures.variance is not None:
        lines.append(_variance_text(figures.variance))
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
    if figures.variance is not None:
        details.append(f"{percent(figures.variance.share_between)} of the variance between rows")
    if estimate.note:
        details.append(estimate.note)
    return mean_text(estimate) if estimate.mean is not None else "–", rows_text(estimate.n), ", ".join(details)
