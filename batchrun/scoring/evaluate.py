"""`batchrun score` and `batchrun compare`, apart from what they print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from batchrun.errors import InputError
from batchrun.scoring.bars import Bar, floor_bars, junit, no_worse_bars
from batchrun.scoring.comparison import DETECTABLE, Comparison, compare, compare_parts, contender, pair
from batchrun.scoring.grading.grading import GraderReport, Grading, graded, grader_lines, reports_of
from batchrun.scoring.score_options import BarOn, FailedAs, ScoreOptions
from batchrun.scoring.scorers.registry import make_scorers
from batchrun.scoring.summary import ScoreSummary, summarize
from batchrun.scoring.summary_text import comparison_markdown, score_markdown
from batchrun.scoring.table import ScoreColumns, ScoredTable, open_scored, write_scored
from batchrun.tables import ReadOptions
from batchrun.tables.atomic import replacing

__all__ = [
    "BELOW_THE_BAR",
    "Bars",
    "Evaluation",
    "ScoringSpec",
    "check_baseline",
    "compare_tables",
    "default_scored",
    "score_table",
    "scoring_spec",
]

BELOW_THE_BAR: Final = 7


@dataclass(frozen=True, slots=True)
class ScoringSpec:
    """How tables are to be scored.

    Attributes:
        scorers: as the user names them, see `batchrun.scoring.scorers.registry`.
        columns: which column is what.
        failed_as: what failed rows count as.
        read: how text tables are to be understood.
        grading: how the graders of model-graded scorers are asked.
    """

    scorers: Sequence[str]
    columns: ScoreColumns
    failed_as: FailedAs = "skip"
    read: ReadOptions = field(default_factory=ReadOptions)
    grading: Grading | None = None

    def open(self, name: str) -> ScoredTable:
        """Open a table, with its own scorers; graders are asked if a scorer needs them.

        Raises:
            InputError: see `open_scored` and `make_scorers`.
            GradingStopped, OutputError, OutputHeld: see `graded`.
        """
        table = open_scored(name, make_scorers(self.scorers), self.columns, self.read)
        return table if self.grading is None else graded(table, self.grading)


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
    )
    read = ReadOptions(options.encoding, options.delimiter)
    return ScoringSpec(options.scorer, columns, options.failed_as, read, grading)


@dataclass(frozen=True, slots=True)
class Bars:
    """What a table has to reach.

    Attributes:
        fail_under: least mean of every scorer, from 0 to 1.
        baseline: the table that it is paired with.
        margin: how much lower than the baseline's its means may be, from 0 to 1.
        on: what is held against the bar.
    """

    fail_under: float | None = None
    baseline: str | None = None
    margin: float = 0.0
    on: BarOn = "value"

    @property
    def given(self) -> bool:
        """Whether there is any bar."""
        return self.fail_under is not None or self.baseline is not None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A table that was scored.

    Attributes:
        table: its name.
        output: where it was written with its scores.
        summaries: scorer by scorer.
        bars: how they went; empty without any.
        incomplete: answers that were cut short.
        graders: what graders did.
    """

    table: str
    output: Path
    summaries: Sequence[ScoreSummary]
    bars: Sequence[Bar]
    incomplete: int
    graders: Sequence[GraderReport] = ()

    @property
    def exit_code(self) -> int:
        """0, or 7 below a bar."""
        return 0 if all(bar.passed for bar in self.bars) else BELOW_THE_BAR

    def facts(self) -> dict[str, Any]:
        """The evaluation for machines."""
        return {
            "table": self.table,
            "output": str(self.output),
            "scores": [each.facts() for each in self.summaries],
            "bars": [{"bar": bar.name, "passed": bar.passed, "found": bar.found} for bar in self.bars],
            "incomplete": self.incomplete,
            "graders": [grader.facts() for grader in self.graders],
            "exit_code": self.exit_code,
        }

    def write_junit(self, path: Path) -> None:
        """Write the bars as JUnit XML.

        Raises:
            OutputError: the system refused.
        """
        with replacing(path) as file:
            file.write(junit(self.bars, f"batchrun score {self.table}"))

    def write_markdown(self, path: Path) -> None:
        """Write figures and bars as Markdown.

        Raises:
            OutputError: the system refused.
        """
        with replacing(path) as file:
            notes = "".join(f"\n{line}\n" for line in grader_lines(self.graders))
            text = score_markdown(self.table, self.summaries, self.bars) + notes
            file.write(text.encode("utf-8", "replace"))


def default_scored(name: str) -> Path:
    """Where a table goes with its scores if nobody says: `answers.csv` → `answers.scored.csv`, beside it."""
    path = Path(name)
    endings = path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]
    ending = "".join(endings)
    return path.with_name(f"{path.name.removesuffix(ending)}.scored{ending}")


def check_baseline(baseline: str | None, columns: ScoreColumns) -> None:
    """A table is paired with a baseline by a key.

    Raises:
        InputError: there is none.
    """
    if baseline is not None and columns.key is None:
        raise InputError("--no-worse-than: pairs the rows of two tables: say --key COLUMN")


def score_table(name: str, question: ScoringSpec, bars: Bars, output: Path | None = None) -> Evaluation:
    """Score a table, write it with its scores, and hold it against the bars.

    Args:
        name: the table.
        question: how to score it.
        bars: what it has to reach.
        output: where to write it; None for `default_scored`.

    Raises:
        InputError: what was given cannot be used.
        OutputError: the table cannot be written.
    """
    check_baseline(bars.baseline, question.columns)
    table = question.open(name)
    baseline = question.open(bars.baseline) if bars.baseline is not None else None
    output = output or default_scored(name)
    tally = write_scored(table, output, compared=baseline is not None)
    summaries = summarize(tally, question.failed_as)
    found = [] if bars.fail_under is None else floor_bars(summaries, bars.fail_under, bars.on)
    if baseline is not None:
        before = contender(baseline, question.failed_as)
        after = contender(table, question.failed_as, tally)
        pairings = [pair(before, after, each.name, question.failed_as) for each in summaries]
        found += no_worse_bars(pairings, bars.margin, bars.on)
    return Evaluation(name, output, summaries, found, tally.incomplete, reports_of(table))


def compare_tables(
    names: Sequence[str],
    question: ScoringSpec,
    *,
    detectable: Sequence[float] = DETECTABLE,
    baseline: str | None = None,
    markdown: Path | None = None,
) -> Comparison:
    """Score several tables alike and compare each pair of them, or one table and compare its parts.

    Args:
        names: two tables or more; one where the question splits it.
        question: how to score them; with a key, unless it splits a table.
        detectable: differences for which to tell the rows needed.
        baseline: of a split table, the value that the others are compared with; None for the first.
        markdown: where to write the comparison as Markdown.

    Raises:
        InputError: what was given cannot be used.
        OutputError: the Markdown cannot be written.
    """
    split = question.columns.split is not None
    if baseline is not None and not split:
        raise InputError("--baseline: a value of the column that a table is split by: say --split COLUMN")
    if split and len(names) > 1:
        raise InputError("--split: compares the rows of one table; name one")
    if not split:
        _check_tables(names, question.columns)
    tables = [question.open(name) for name in names]
    if split:
        found = compare_parts(tables[0], question.failed_as, detectable, baseline)
    else:
        found = compare([contender(table, question.failed_as) for table in tables], question.failed_as, detectable)
    if markdown is not None:
        with replacing(markdown) as file:
            file.write(comparison_markdown(found).encode("utf-8", "replace"))
    return found


def _check_tables(names: Sequence[str], columns: ScoreColumns) -> None:
    if len(names) < 2:
        raise InputError("compare: two tables or more are expected, or one and --split COLUMN")
    if len(set(names)) < len(names):
        raise InputError("compare: a table is named twice")
    if columns.key is None:
        raise InputError("compare: pairs the rows of the tables: say --key COLUMN")
