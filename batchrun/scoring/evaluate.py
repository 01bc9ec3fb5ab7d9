"""`batchrun score` and `batchrun compare`, without their printing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from batchrun.errors import InputError
from batchrun.local_paths import is_url
from batchrun.scoring.bars import Bar, floor_bars, junit, no_worse_bars
from batchrun.scoring.comparison import Comparison, compare, compare_parts
from batchrun.scoring.comparison_text import comparison_markdown
from batchrun.scoring.contender import Contender, contender
from batchrun.scoring.earlier_scores import EarlierScores, earlier_scores
from batchrun.scoring.grading.asking import CostOf
from batchrun.scoring.grading.grader_report import GraderReport, grader_lines
from batchrun.scoring.grading.grading import Grading, grade, reports_of, scoring_costs
from batchrun.scoring.grading.grading_cost import ScoringCosts
from batchrun.scoring.labels.hand_labels import hand_labels
from batchrun.scoring.labels.label_report import LabelReport, label_lines, label_report
from batchrun.scoring.paired_tables import PairedTables
from batchrun.scoring.pairing import DETECTABLE, pair
from batchrun.scoring.score_columns import ScoreColumns
from batchrun.scoring.score_facts import EvaluationFacts
from batchrun.scoring.score_options import MIN_SCORED, BarOn, FailedAs, ScoreOptions
from batchrun.scoring.score_tally import ScoreTally
from batchrun.scoring.scored_output import default_scored, score_columns, write_scored
from batchrun.scoring.scorers.base import NamedScorer
from batchrun.scoring.scorers.registry import make_scorers
from batchrun.scoring.summary import ScoreSummary, summarize
from batchrun.scoring.summary_text import score_markdown
from batchrun.scoring.table import ScoredTable, scored_table
from batchrun.tables import ReadOptions, Source, open_source
from batchrun.tables.atomic import replacing

__all__ = [
    "BELOW_THE_BAR",
    "Bars",
    "Evaluation",
    "ScoringSpec",
    "check_baseline",
    "check_comparison",
    "compare_tables",
    "comparison_of",
    "evaluation_of",
    "score_table",
    "scoring_spec",
]

BELOW_THE_BAR: Final = 7


@dataclass(frozen=True, slots=True)
class ScoringSpec:
    """How tables are scored.

    Attributes:
        scorers: scorers as the user writes them, see `batchrun.scoring.scorers.registry`, or made already.
        columns: the tables' columns by their meaning.
        failed_as: how failed rows count.
        read: encoding and delimiter of text tables.
        grading: how the graders of model-graded scorers are asked; None if no grader can be asked.
    """

    scorers: Sequence[str | NamedScorer]
    columns: ScoreColumns
    failed_as: FailedAs = "skip"
    read: ReadOptions = field(default_factory=ReadOptions)
    grading: Grading | None = None

    @property
    def for_baseline(self) -> ScoringSpec:
        """How the table of `Bars.baseline` is scored: it needs neither hand labels nor groups."""
        return replace(self, columns=replace(self.columns, labels=None, by=()))

    def costs(self, table: str | Source, cost: CostOf) -> ScoringCosts:
        """Return what the requests about a table would cost; nothing is sent.

        Raises:
            InputError: as for `open`.
            OutputError: the journal of a grader cannot be read.
        """
        source = open_source(table, self.read) if isinstance(table, str) else table
        scored = scored_table(source, make_scorers(self.scorers), self.columns)
        return ScoringCosts() if self.grading is None else scoring_costs(scored, self.grading, cost)

    def unscored(self, table: str | Source) -> ScoredTable:
        """Open a table by its path, or prepare an open one, without its scorers.

        Raises:
            InputError: see `open_source` and `scored_table`.
        """
        source = open_source(table, self.read) if isinstance(table, str) else table
        return scored_table(source, [], self.columns)

    def open(self, table: str | Source, *, may_lack_scorers: bool = False) -> ScoredTable:
        """Open a table by its path, or prepare an open one, with its own scorers; graders are asked if a scorer needs
        them.

        Args:
            may_lack_scorers: whether a table without scorers is of use.

        Raises:
            InputError: see `open_source`, `scored_table` and `make_scorers`.
            GradingStopped, OutputError, OutputHeld: see `grade`.
        """
        scorers = make_scorers(self.scorers) if self.scorers or not may_lack_scorers else []
        source = open_source(table, self.read) if isinstance(table, str) else table
        scored = scored_table(source, scorers, self.columns)
        return scored if self.grading is None else grade(scored, self.grading)


def scoring_spec(options: ScoreOptions, grading: Grading | None = None) -> ScoringSpec:
    """Return how tables are scored by these options; bars and files are left to the caller."""
    columns = ScoreColumns(
        answer=options.answer,
        target=options.target,
        key=options.key,
        epoch=options.epochs_column,
        cluster=options.cluster,
        split=options.split,
        by=options.by,
        ignore=options.ignore,
        labels=options.labels,
    )
    read = ReadOptions(
        options.encoding, options.delimiter, options.no_header, sheet=options.sheet, skip_rows=options.skip_rows
    )
    return ScoringSpec(options.scorer, columns, options.failed_as, read, grading)


@dataclass(frozen=True, slots=True)
class Bars:
    """The bars for the scores of a table.

    Attributes:
        fail_under: lowest accepted mean of every scorer, from 0 to 1; None for no such bar.
        baseline: table that it is paired with; None for no such bar.
        margin: accepted loss against the baseline's means, from 0 to 1.
        on: the figure that must reach a bar.
        min_scored: lowest share of the rows that should have a score, and have one, from 0 to 1.
    """

    fail_under: float | None = None
    baseline: str | None = None
    margin: float = 0.0
    on: BarOn = "value"
    min_scored: float = MIN_SCORED

    @classmethod
    def of(cls, options: ScoreOptions) -> Bars:
        """Return the bars that the options ask for."""
        min_scored = MIN_SCORED if options.min_scored is None else options.min_scored
        return cls(options.fail_under, options.no_worse_than, options.margin or 0.0, options.bar_on, min_scored)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of scoring a table.

    Attributes:
        table: name of the table.
        output: path of the table with its scores; None if it was not written.
        summaries: one per scorer.
        bars: results of the bars; empty without bars.
        incomplete: number of answers that were cut short.
        graders: one report per grader.
        labels: one report per scorer if there are hand labels.
        notice: a line about scores that the output had before; may be empty.
    """

    table: str
    output: Path | None
    summaries: Sequence[ScoreSummary]
    bars: Sequence[Bar]
    incomplete: int
    graders: Sequence[GraderReport] = ()
    labels: Sequence[LabelReport] = ()
    notice: str = ""

    @property
    def exit_code(self) -> int:
        """0, or 7 if a bar is missed."""
        return 0 if all(bar.passed for bar in self.bars) else BELOW_THE_BAR

    def facts(self) -> EvaluationFacts:
        """Return the evaluation as JSON."""
        return {
            "table": self.table,
            "output": None if self.output is None else str(self.output),
            "scores": [each.facts() for each in self.summaries],
            "bars": [bar.facts() for bar in self.bars],
            "incomplete": self.incomplete,
            "graders": [grader.facts() for grader in self.graders],
            "labels": [report.facts() for report in self.labels],
            "exit_code": self.exit_code,
        }

    def write_junit(self, path: Path) -> None:
        """Write the bars as JUnit XML.

        Raises:
            OutputError: the file cannot be written.
        """
        with replacing(path) as file:
            file.write(junit(self.bars, f"batchrun score {self.table}"))

    def write_markdown(self, path: Path) -> None:
        """Write figures and bars as Markdown.

        Raises:
            OutputError: the file cannot be written.
        """
        with replacing(path) as file:
            file.write(self.markdown().encode("utf-8", "replace"))

    def markdown(self) -> str:
        """Return figures and bars as Markdown."""
        notes = "".join(f"\n{line}\n" for line in grader_lines(self.graders))
        if self.labels:
            lines = "\n".join(label_lines(self.labels))
            notes = f"\n```text\n{lines}\n```\n{notes}"
        return score_markdown(self.table, self.summaries, self.bars) + notes


def check_baseline(baseline: str | None, columns: ScoreColumns) -> None:
    """Check that a table that is paired with a baseline has a key column.

    Raises:
        InputError: no key column is named.
    """
    if baseline is not None and columns.key is None:
        raise InputError("--no-worse-than: pairs rows by id, not by position; name their id column with --key COLUMN")


def score_table(name: str, spec: ScoringSpec, bars: Bars, output: Path | None = None) -> Evaluation:
    """Score a table, write it with its scores, and check the bars.

    Args:
        name: path of the table.
        spec: how to score it.
        bars: bars for its scores.
        output: file to write, which is replaced; None for `default_scored`, which keeps the scores of other scorers.

    Raises:
        InputError: an argument or the table cannot be used.
        OutputError: the table cannot be written.
    """
    check_baseline(bars.baseline, spec.columns)
    table = spec.open(name)
    baseline = spec.for_baseline.open(bars.baseline) if bars.baseline is not None else None
    earlier = EarlierScores()
    if output is None:
        output = default_scored(name)
        earlier = earlier_scores(output, table.source, list(score_columns(table).extra_columns))
    tally = write_scored(table, output, for_comparison=baseline is not None, earlier=earlier)
    return replace(evaluation_of(table, tally, spec.failed_as, bars, baseline, output), notice=earlier.notice)


def evaluation_of(
    table: ScoredTable,
    tally: ScoreTally,
    failed_as: FailedAs,
    bars: Bars,
    baseline: ScoredTable | None = None,
    output: Path | None = None,
) -> Evaluation:
    """Return the figures of a table that has been scored, and check its bars.

    Args:
        tally: of the table; for comparisons if there is a baseline.
        failed_as: how failed rows count.
        baseline: the table of `Bars.baseline`, which is scored now.
        output: where the scored table was written; None if it was not.

    Raises:
        InputError: a cluster splits the epochs of a row, or the baseline shares no row.
    """
    summaries = summarize(tally, failed_as)
    results = []
    if bars.fail_under is not None:
        results = floor_bars(summaries, bars.fail_under, bars.on, bars.min_scored)
    if baseline is not None:
        tables = PairedTables.of(contender(baseline, failed_as, like=tally), contender(table, failed_as, tally))
        pairings = [pair(tables, each.name, failed_as) for each in summaries]
        results += no_worse_bars(pairings, summaries, bars.margin, bars.on, bars.min_scored)
    labels = hand_labels(table.columns, tally)
    reports = [] if labels is None else [label_report(named, tally, labels) for named in table.scorers]
    graders = reports_of(table)
    return Evaluation(table.source.name, output, summaries, results, tally.incomplete, graders, reports)


def compare_tables(
    names: Sequence[str],
    spec: ScoringSpec,
    *,
    detectable: Sequence[float] = DETECTABLE,
    baseline: str | None = None,
    markdown: Path | None = None,
) -> Comparison:
    """Score several tables and compare each pair of them, or score one table and compare its parts.

    Args:
        names: two or more tables; one table if it is split.
        spec: how to score them; with a key column, unless a table is split.
        detectable: differences for which the required number of rows is computed.
        baseline: value of the split column that the others are compared with; None compares every pair.
        markdown: Markdown file for the comparison; None for no file.

    Raises:
        InputError: an argument or a table cannot be used.
        OutputError: the Markdown file cannot be written.
    """
    check_comparison(names, spec.columns, baseline)
    tables = [spec.open(name) for name in names]
    if spec.columns.split is not None:
        scored = [(table, table.tally(for_comparison=True)) for table in tables]
        comparison = comparison_of(scored, spec.failed_as, detectable=detectable, baseline=baseline)
    else:
        _check_ignored(tables)
        contenders: list[Contender] = []
        for table in tables:
            like = contenders[0].tally if contenders else None
            contenders.append(contender(table, spec.failed_as, like=like))
        comparison = compare(contenders, spec.failed_as, detectable)
    if markdown is not None:
        with replacing(markdown) as file:
            file.write(comparison_markdown(comparison).encode("utf-8", "replace"))
    return comparison


def check_comparison(names: Sequence[str], columns: ScoreColumns, baseline: str | None) -> None:
    """Check that tables with these names can be compared, before any is scored.

    Raises:
        InputError: an option is missing, or does not fit the number of tables.
    """
    if columns.split is None and baseline is not None:
        raise InputError("--baseline: names a value of the column that splits a table; add --split COLUMN")
    if columns.split is not None and len(names) > 1:
        raise InputError("--split: compares the rows of one table; name a single table")
    if columns.split is None:
        _check_tables(names, columns)


def comparison_of(
    scored: Sequence[tuple[ScoredTable, ScoreTally]],
    failed_as: FailedAs,
    *,
    detectable: Sequence[float] = DETECTABLE,
    baseline: str | None = None,
) -> Comparison:
    """Compare each pair of tables, or the parts of a single one.

    Args:
        scored: the tables with their tallies for comparisons.
        failed_as: how failed rows count.
        detectable: differences for which the required number of rows is computed.
        baseline: value of the split column that the others are compared with; None compares every pair.

    Raises:
        InputError: two tables share no row, or the column that splits one has a single value.
    """
    tables = [table for table, _ in scored]
    _check_ignored(tables)
    if tables[0].columns.split is not None:
        [(table, tally)] = scored
        return compare_parts(table, tally, failed_as, detectable, baseline)
    return compare([contender(table, failed_as, tally) for table, tally in scored], failed_as, detectable)


def _check_ignored(tables: Sequence[ScoredTable]) -> None:
    """Check that each column of `--ignore` is in one of the tables.

    Raises:
        InputError: it is in none.
    """
    for column in tables[0].columns.ignore:
        if not any(column in table.source.columns for table in tables):
            names = " and ".join(table.source.name for table in tables)
            raise InputError(f"--ignore {column}: no such column in {names}")


def _check_tables(names: Sequence[str], columns: ScoreColumns) -> None:
    if len(names) < 2:
        raise InputError("compare: two or more tables are expected, or one table and --split COLUMN")
    if (twice := next((name for name in names if names.count(name) > 1), None)) is not None:
        query = " (what follows ? in a URL does not count)" if is_url(twice) else ""
        raise InputError(f"compare: a table is named twice: {twice}{query}")
    if columns.key is None:
        raise InputError("compare: pairs rows by id, not by position; name their id column with --key COLUMN")
