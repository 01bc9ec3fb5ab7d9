"""A scoring call from Python: its options, its scorers and graders, and the tables that it scores."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from batchrun.api.data import read_data
from batchrun.api.event_loop import run_to_end
from batchrun.api.progress_bar import watch_of
from batchrun.api.scores import Scores
from batchrun.api.scoring_estimate import ScoringEstimate, request_cost
from batchrun.batch.run import run_batch
from batchrun.errors import GradingStopped, InputError
from batchrun.interrupts import Interrupted, Interrupts
from batchrun.job.environment import ApiKey, Environment
from batchrun.records import Row, Settings
from batchrun.scoring.earlier_scores import EarlierScores, earlier_scores
from batchrun.scoring.evaluate import Bars, ScoringSpec, evaluation_of, scoring_spec
from batchrun.scoring.grading.grader_report import GraderReport
from batchrun.scoring.grading.grading import Grading
from batchrun.scoring.pairwise.judge import Judged, check_judged, judge_costs, judge_of, judged
from batchrun.scoring.score_options import ScoreOptions, Use, make_score_options
from batchrun.scoring.score_tally import ScoreTally
from batchrun.scoring.scored_output import check_scored_output, score_columns, write_after
from batchrun.scoring.scorers.base import NamedScorer
from batchrun.scoring.scorers.python import FunctionScorer
from batchrun.scoring.table import ScoredTable
from batchrun.tables import ReadOptions, Source, format_of, open_source, to_frame
from batchrun.wording import shortened

if TYPE_CHECKING:
    import pandas

    from batchrun.batch.plan import Plan
    from batchrun.batch.progress import Watch
    from batchrun.batch.run_summary import Summary

__all__ = [
    "OneScorer",
    "ScoredRows",
    "ScorerGiven",
    "ScoringCall",
    "grading_of",
    "options_given",
    "resolved_scoring",
    "scorers_of",
    "scoring_call",
]

OneScorer: TypeAlias = str | Callable[..., Any]
"""A scorer as on the command line, or a function of the answer and the target, and of the row if it takes three."""

ScorerGiven: TypeAlias = OneScorer | Sequence[OneScorer] | Mapping[str, OneScorer]
"""One scorer, several, or several by their names."""


def scorers_of(given: ScorerGiven) -> list[str | NamedScorer]:
    """Return the scorers of a call.

    Raises:
        InputError: something else is given, or a function takes other arguments.
    """
    if isinstance(given, str) or callable(given):
        return [_scorer(given, None)]
    if isinstance(given, Mapping):
        return [_scorer(each, name) for name, each in given.items()]
    if not isinstance(given, Iterable):
        raise InputError(f"scorer: expected a name such as 'numeric', or a function, got {shortened(given)}")
    return [_scorer(each, None) for each in given]


def _scorer(given: OneScorer, name: str | None) -> str | NamedScorer:
    if name is not None and not re.fullmatch(r"\w+", name):
        raise InputError(f"scorer: expected a name of letters, digits and underscores, got {shortened(name)}")
    if isinstance(given, str):
        return given if name is None else f"{name}={given}"
    if not callable(given):
        raise InputError(f"scorer: expected a name such as 'numeric', or a function, got {shortened(given)}")
    name = name or getattr(given, "__name__", type(given).__name__).strip("<>")
    return NamedScorer(name, FunctionScorer.of(name, given))


def options_given(**given: object) -> dict[str, Any]:
    """Return the options that are not left out."""
    return {
        name: value for name, value in given.items() if not (value is None or (isinstance(value, tuple) and not value))
    }


@dataclass(frozen=True, slots=True)
class _NamedTable:
    """A table in memory under the name that messages and comparisons use.

    Attributes:
        source: the table.
    """

    source: Source
    name: str

    @property
    def columns(self) -> tuple[str, ...]:
        return self.source.columns

    def rows(self) -> Iterator[Row]:
        return self.source.rows()

    def fingerprint(self) -> str:
        return self.source.fingerprint()


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """A scored table.

    Attributes:
        table: the table with its scorers.
        tally: what statistics need of it.
        frame: its rows with their scores.
        lost: a line about the scores of other scorers that the output had and has no more; may be empty.
    """

    table: ScoredTable
    tally: ScoreTally
    frame: pandas.DataFrame
    lost: str = ""


@dataclass(frozen=True, slots=True)
class ScoringCall:
    """The arguments of a scoring call, resolved.

    Attributes:
        options: all options except the scorers.
        spec: how tables are scored.
        folder: where verdicts on tables in memory are while the call runs.
    """

    options: ScoreOptions
    spec: ScoringSpec
    folder: Path

    def open(
        self,
        data: object,
        name: str | None = None,
        *,
        may_lack_scorers: bool = False,
        beside: Path | None = None,
    ) -> tuple[Source, ScoredTable]:
        """Return a table, and the same table with its scorers; graders are asked if a scorer needs them.

        Args:
            data: what the caller gave.
            name: for messages and figures; None for the path, or `data` for a table in memory.
            may_lack_scorers: whether a table without scorers is of use.
            beside: the file next to which verdicts on a table in memory are kept.

        Raises:
            InputError: it is not a table, or cannot be scored.
            GradingStopped, OutputError, OutputHeld: see `batchrun.scoring.grading.grading.grade`.
        """
        source, named, spec = self._resolved(data, name, beside)
        return source, spec.open(named, may_lack_scorers=may_lack_scorers)

    def estimated(self, data: object, baseline: object, output: Path | None) -> ScoringEstimate:
        """Return what the requests about a table and its baseline would cost; nothing is sent.

        Args:
            data, output: as for `scored`.
            baseline: as for `scores`.

        Raises:
            InputError, OutputError: see `batchrun.scoring.grading.grading.scoring_costs`.
        """
        call, problems = self._dry()
        _, named, spec = call._resolved(data, None, output)
        cost = request_cost(self._grading.environment)
        costs = spec.costs(named, cost)
        if baseline is not None:
            name = None if isinstance(baseline, str | Path) else "no_worse_than"
            _, named, spec = call._resolved(baseline, name, None)
            costs += spec.for_baseline.costs(named, cost)
        return ScoringEstimate(costs, problems)

    def judged(
        self, judge: str, tables: Iterable[tuple[object, str]], baseline: str | None, *, dry_run: bool
    ) -> list[Judged] | ScoringEstimate:
        """Return the preferences of a judge, or what they would cost.

        Args:
            judge: a model's name, or the path of a job file.
            tables: what the caller gave, and names.
            baseline: as for `compare`.

        Raises:
            InputError, GradingStopped, OutputError, OutputHeld: see `batchrun.scoring.pairwise.judge.judged`.
        """
        check_judged(self.options)
        call, problems = self._dry() if dry_run else (self, [])
        resolved = [call._resolved(data, name, None) for data, name in tables]
        grading = resolved[0][2].grading
        assert grading is not None  # only `report` has none
        asked = judge_of(judge, grading)
        opened = [spec.unscored(named) for _, named, spec in resolved]
        if dry_run:
            costs = judge_costs(opened, asked, grading, request_cost(grading.environment), baseline)
            return ScoringEstimate(costs, problems)
        results = judged(opened, asked, grading, baseline)
        return [replace(each, report=self._without_deleted(each.report)) for each in results]

    @property
    def _grading(self) -> Grading:
        assert self.spec.grading is not None  # only `report` has none
        return self.spec.grading

    def _dry(self) -> tuple[ScoringCall, list[str]]:
        """Return the call without the need for a key, and the list that gets a line about each missing one."""
        problems: list[str] = []
        grading = replace(self._grading, on_no_key=problems.append)
        return replace(self, spec=replace(self.spec, grading=grading)), problems

    def _resolved(self, data: object, name: str | None, beside: Path | None) -> tuple[Source, Source, ScoringSpec]:
        """Return a table, the table under its name, and how it is scored, with the place of its verdicts."""
        given = read_data(data)
        source = open_source(str(given.table) if given.is_path else given.table, self.spec.read)
        spec = self.spec
        if spec.grading is not None:
            kept = source.name if given.is_path else str(beside or self.folder / f"{name or 'data'}.csv")
            spec = replace(spec, grading=replace(spec.grading, beside=kept))
        return source, source if name is None else _NamedTable(source, name), spec

    def scored(
        self,
        data: object,
        name: str | None = None,
        *,
        for_comparison: bool = False,
        output: Path | None = None,
        batch: Path | None = None,
    ) -> ScoredRows:
        """Score a table.

        Args:
            data, name: as for `open`.
            for_comparison: whether the tally gets what comparisons need.
            output: file for the scored table; None writes none.
            batch: output of the batch whose rows `data` has, if it is a file: the scored table has its cells.

        Raises:
            InputError, OutputError, GradingStopped: as for `open`; or the output cannot be written.
        """
        if output is not None:
            format_of(output, str(output))
        source, table = self.open(data, name, beside=batch or output)
        columns = score_columns(table)
        written = source if batch is None else open_source(str(batch), ReadOptions())
        if output is not None:
            check_scored_output(replace(table, source=written), output)
        tally = ScoreTally()
        cells = [table.cells(scores) for _, scores in table.scored(tally, for_comparison=for_comparison)]
        earlier = EarlierScores()
        if output is not None:
            if self.options.output is None:
                earlier = earlier_scores(output, written, list(columns.extra_columns))
            write_after(earlier, output, written, iter(cells), columns)
        lost = earlier.notice if not earlier.columns else ""
        return ScoredRows(table, tally, to_frame(source, iter(cells), columns), lost)

    def scores(self, scored: ScoredRows, baseline: object, output: Path | None) -> Scores:
        """Return the figures of a scored table, and check its bars.

        Args:
            baseline: the table of `no_worse_than`; None for none.
            output: where the scored table was written; None if it was not.

        Raises:
            InputError, GradingStopped: as for `open`.
            OutputError: a file that the options name cannot be written.
        """
        options = self.options
        name = None if isinstance(baseline, str | Path) else "no_worse_than"
        evaluation = evaluation_of(
            scored.table,
            scored.tally,
            self.spec.failed_as,
            Bars.of(options),
            None if baseline is None else replace(self, spec=self.spec.for_baseline).open(baseline, name)[1],
            output,
        )
        if options.junit is not None:
            evaluation.write_junit(options.junit)
        if options.markdown is not None:
            evaluation.write_markdown(options.markdown)
        kept = [self._without_deleted(each) for each in evaluation.graders]
        return Scores(replace(evaluation, graders=kept), scored.frame)

    def _without_deleted(self, report: GraderReport) -> GraderReport:
        """Return a report that names no file that is deleted after the call."""
        is_deleted = report.table is not None and report.table.parent == self.folder
        return replace(report, table=None) if is_deleted else report


@contextmanager
def scoring_call(
    use: Use,
    scorer: ScorerGiven,
    given: Mapping[str, Any],
    *,
    api_key: ApiKey | None = None,
    progress: bool | None = None,
) -> Iterator[ScoringCall]:
    """Resolve the arguments of `score`, `compare` or `report`.

    Args:
        use: the function, whose options they are.
        scorer: the scorers.
        given: options by their names.
        api_key: key for the graders.
        progress: whether the batch of a grader is shown; see `batchrun.run`.

    Raises:
        InputError: an option or a scorer is wrong.
    """
    options = make_score_options(dict(given), use, use)
    environment = Environment.read(os.environ)
    if api_key is not None:
        environment = environment.with_key(api_key)
    grading = None if use == "report" else grading_of(options, environment, watch_of(progress))
    with resolved_scoring(options, scorers_of(scorer), grading, has_output=use == "score") as call:
        yield call


def grading_of(
    options: ScoreOptions, environment: Environment, watch: Watch | None, service: Settings | None = None
) -> Grading:
    """Return how graders are asked: each by a batch on an event loop of its own.

    Args:
        watch: shows the progress of a grader's batch; None for nothing.
        service: options of a batch whose service the graders of `grader_model` share.

    Raises:
        InputError: a grader's file or an option cannot be used.
    """

    def run(plan: Plan) -> Summary:
        interrupts = Interrupts()
        return run_to_end(partial(run_batch, plan, environment, watch=watch, interrupts=interrupts), interrupts)

    return Grading.of(options, environment, run, environ=os.environ, service=service)


@contextmanager
def resolved_scoring(
    options: ScoreOptions, scorers: Sequence[str | NamedScorer], grading: Grading | None, *, has_output: bool = True
) -> Iterator[ScoringCall]:
    """Provide a folder for verdicts on tables in memory, which is deleted at the end unless a grader stopped early.

    Args:
        has_output: whether the function has a parameter `output`, next to which verdicts are kept.
    """
    spec = replace(scoring_spec(options, grading), scorers=scorers)
    folder = Path(tempfile.mkdtemp(prefix="batchrun-"))
    keeps_folder = False
    try:
        yield ScoringCall(options, spec, folder)
    except GradingStopped as exc:
        if exc.exit_code == 130:
            raise Interrupted(str(exc)) from exc
        keeps_folder = any(folder.iterdir())
        if keeps_folder and not has_output:
            exc.add_note("verdicts on tables that are files are kept next to them, so that the same call continues")
        elif keeps_folder:
            exc.add_note(f"the same call with output={str(folder / 'data.csv')!r} continues with the verdicts so far")
        raise
    finally:
        if not keeps_folder:
            shutil.rmtree(folder, ignore_errors=True)
