"""A scoring call from Python: its options, its scorers and graders, and the tables that it scores."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from batchrun.api.data import read_data
from batchrun.api.event_loop import run_to_end
from batchrun.api.progress_bar import watch_of
from batchrun.batch.run import run_batch
from batchrun.errors import GradingStopped, InputError
from batchrun.interrupts import Interrupted, Interrupts
from batchrun.job.environment import ApiKey, Environment
from batchrun.records import Row
from batchrun.scoring.evaluate import ScoringSpec, scoring_spec
from batchrun.scoring.grading.grading import Grading
from batchrun.scoring.score_options import ScoreOptions, Use, make_score_options
from batchrun.scoring.score_tally import ScoreTally
from batchrun.scoring.scored_output import check_scored_output, score_columns
from batchrun.scoring.scorers.base import NamedScorer
from batchrun.scoring.scorers.python import FunctionScorer
from batchrun.scoring.table import ScoredTable
from batchrun.tables import Source, format_of, open_source, to_frame, write_table
from batchrun.wording import shortened

if TYPE_CHECKING:
    import pandas

    from batchrun.batch.plan import Plan
    from batchrun.batch.run_summary import Summary

__all__ = ["OneScorer", "ScoredRows", "ScorerGiven", "ScoringCall", "options_given", "scorers_of", "scoring_call"]

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
    return {name: value for name, value in given.items() if value is not None and value != ()}


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
    """

    table: ScoredTable
    tally: ScoreTally
    frame: pandas.DataFrame


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
        self, data: object, name: str | None = None, *, may_lack_scorers: bool = False
    ) -> tuple[Source, ScoredTable]:
        """Return a table, and the same table with its scorers; graders are asked if a scorer needs them.

        Args:
            data: what the caller gave.
            name: for messages and figures; None for the path, or `data` for a table in memory.
            may_lack_scorers: whether a table without scorers is of use.

        Raises:
            InputError: it is not a table, or cannot be scored.
            GradingStopped, OutputError, OutputHeld: see `batchrun.scoring.grading.grading.grade`.
        """
        given = read_data(data)
        source = open_source(str(given.table) if given.is_path else given.table, self.spec.read)
        spec = self.spec
        if spec.grading is not None:
            # A table in memory has no file beside which its verdicts could be.
            beside = source.name if given.is_path else str(self.options.output or self.folder / f"{name or 'data'}.csv")
            spec = replace(spec, grading=replace(spec.grading, beside=beside))
        named = source if name is None else _NamedTable(source, name)
        return source, spec.open(named, may_lack_scorers=may_lack_scorers)

    def scored(self, data: object, name: str | None = None, *, for_comparison: bool = False) -> ScoredRows:
        """Score a table, and write it if the options name an output.

        Raises:
            InputError, OutputError, GradingStopped: as for `open`; or the output cannot be written.
        """
        output = self.options.output
        if output is not None:
            format_of(output, str(output))
        source, table = self.open(data, name)
        columns = score_columns(table)
        if output is not None:
            check_scored_output(replace(table, source=source), output)
        tally = ScoreTally()
        cells = [table.cells(scores) for _, scores in table.scored(tally, for_comparison=for_comparison)]
        if output is not None:
            write_table(output, source, iter(cells), columns)
        return ScoredRows(table, tally, to_frame(source, iter(cells), columns))


@contextmanager
def scoring_call(
    use: Use,
    scorer: ScorerGiven,
    given: Mapping[str, Any],
    *,
    api_key: ApiKey | None = None,
    progress: bool | None = None,
) -> Iterator[ScoringCall]:
    """Resolve the arguments of a scoring call. Verdicts on tables in memory are deleted at the end, unless the graders
    stopped early.

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
    scorers = scorers_of(scorer)
    environment = Environment.read(os.environ)
    if api_key is not None:
        environment = environment.with_key(api_key)
    watch = watch_of(progress)

    def run(plan: Plan) -> Summary:
        interrupts = Interrupts()
        return run_to_end(run_batch(plan, environment, watch=watch, interrupts=interrupts), interrupts)

    can_grade = use in ("score", "compare")
    grading = Grading.of(options, environment, run, environ=os.environ) if can_grade else None
    spec = replace(scoring_spec(options, grading), scorers=scorers)
    folder = Path(tempfile.mkdtemp(prefix="batchrun-"))
    keeps_folder = False
    try:
        yield ScoringCall(options, spec, folder)
    except GradingStopped as exc:
        if exc.exit_code == 130:
            raise Interrupted(str(exc)) from exc
        keeps_folder = any(folder.iterdir())
        if keeps_folder:
            exc.add_note(f"the same call with output={str(folder / 'data.csv')!r} continues with the verdicts so far")
        raise
    finally:
        if not keeps_folder:
            shutil.rmtree(folder, ignore_errors=True)
