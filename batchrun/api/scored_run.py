"""`run` with `score`, `dry_run` or `pilot`: a batch whose answers are scored, an estimate, and a sample that is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from batchrun.api.call import Call
from batchrun.api.estimates import DryRunEstimate, PilotEstimate
from batchrun.api.scores import Scores
from batchrun.api.scoring_call import ScorerGiven, ScoringCall, grading_of, options_given, resolved_scoring, scorers_of
from batchrun.batch.plan import Plan, make_plan
from batchrun.errors import InputError
from batchrun.estimate.dry_plan import dry_plan
from batchrun.estimate.dry_run import dry_run
from batchrun.estimate.pilot import run_pilot
from batchrun.estimate.token_guess import o200k_counter
from batchrun.interrupts import Interrupts
from batchrun.job.options import changed_options
from batchrun.scoring.after_batch import job_file_scoring, options_after_batch, with_batch_columns
from batchrun.scoring.precheck import check_spec
from batchrun.scoring.score_options import score_options
from batchrun.scoring.scored_output import default_scored
from batchrun.tables import to_frame
from batchrun.wording import shortened

if TYPE_CHECKING:
    import pandas

    from batchrun.api.data import Data

__all__ = ["Mode", "ScoringOptions", "estimated", "mode_of", "piloted", "scoring_of"]


class ScoringOptions(TypedDict, total=False):
    """The options of `score` that `run` and `arun` take with `score=`."""

    target: str | None
    by: str | Sequence[str]
    cluster: str | None
    labels: str | None
    failed_as: Literal["skip", "wrong"]
    fail_under: float | None
    no_worse_than: Data | None
    margin: float | None
    bar_on: Literal["value", "interval"]
    min_scored: float | None
    grader: str | Path | Sequence[str | Path]
    grader_model: str | Sequence[str]
    vote: Literal["majority", "mean"] | None
    question: str | None
    rubric: Literal["correctness", "factuality", "closed-qa", "faithfulness"] | None
    context: str | None
    junit: str | Path | None
    markdown: str | Path | None


@dataclass(frozen=True, slots=True)
class Mode:
    """What a call of `run` asks for besides answers.

    Attributes:
        score: the scorers; None scores nothing.
        given: the options of scoring, by their names.
        dry_run: estimate only.
        pilot: number of rows to run; None runs all.
        unused: the job file whose table `[score]` is not used; None if there is none.
    """

    score: ScorerGiven | None
    given: Mapping[str, Any]
    dry_run: bool
    pilot: int | None
    unused: str | None = None


def mode_of(data: object, options: dict[str, Any], *, score: ScorerGiven | None, dry_run: bool, pilot: object) -> Mode:
    """Return what a call asks for, and take the options of scoring out of `options`.

    Raises:
        InputError: two of them exclude each other, or an option needs another one.
    """
    names = [name for name in score_options("run") if name != "scorer" and name in options]
    given = options_given(**{name: options.pop(name) for name in names})
    if not isinstance(dry_run, bool):
        raise InputError(f"dry_run: expected True or False, got {shortened(dry_run)}")
    if dry_run and pilot is not None:
        raise InputError("dry_run and pilot cannot be combined; give one of them")
    if pilot is not None and (not isinstance(pilot, int) or isinstance(pilot, bool) or pilot < 1):
        raise InputError(f"pilot: expected a number of rows, at least 1, got {pilot!r}")
    if pilot is not None and score is not None:
        raise InputError("pilot: a sample is not scored; give score without pilot")
    if score is not None and options.get("no_wait"):
        raise InputError(
            "no_wait cannot be combined with score: answers may be missing when the call returns; batchrun.score "
            "scores the output when it is complete"
        )
    if score is None and given:
        raise InputError(f"{next(iter(given))}: is an option of scoring: add score=..., as in score='numeric'")
    is_unused = score is None and isinstance(data, str | Path) and job_file_scoring(str(data)) is not None
    return Mode(score, given, dry_run, pilot, str(data) if is_unused else None)


@contextmanager
def scoring_of(call: Call, mode: Mode, data: object) -> Iterator[_ScoredRun]:
    """Resolve how the answers of a call are scored.

    Args:
        data: what the caller gave.

    Raises:
        InputError: an option or a scorer is wrong.
    """
    scorers = scorers_of(mode.score or ())
    baseline = mode.given.get("no_worse_than")
    given = dict(mode.given)
    if baseline is not None:
        given["no_worse_than"] = str(baseline) if isinstance(baseline, str | Path) else "no_worse_than"
    given["scorer"] = [each if isinstance(each, str) else each.name for each in scorers]
    options = options_after_batch(str(data) if isinstance(data, str | Path) else "", given)
    assert options is not None  # scorers are given
    options = with_batch_columns(options, call.job)
    if baseline is None:
        baseline = options.no_worse_than  # of the job file
    grading = grading_of(options, call.environment, call.watch, changed_options(call.job))
    with resolved_scoring(options, scorers, grading) as scoring:
        yield _ScoredRun(call, scoring, baseline)


@dataclass(frozen=True, slots=True)
class _ScoredRun:
    """A batch whose answers are scored.

    Attributes:
        baseline: the table of `no_worse_than`; None for none.
    """

    call: Call
    scoring: ScoringCall
    baseline: object

    @property
    def in_pandas(self) -> Call:
        """The call, whose answers come back as a pandas frame."""
        return replace(self.call, data=replace(self.call.data, to_answers=to_frame))

    def check(self, plan: Plan, *, on_no_key: Callable[[str], None] | None = None) -> None:
        """Check, before the batch is paid for, that its answers can be scored.

        Raises:
            InputError: a package is missing, or a scorer, a column, a grader or the baseline is wrong.
        """
        spec = self.scoring.spec
        if spec.grading is not None:
            spec = replace(spec, grading=replace(spec.grading, on_no_key=on_no_key))
        columns = [*plan.source.columns, *plan.write_options.added_columns]
        check_spec("data", columns, spec, self.baseline if isinstance(self.baseline, str) else None)

    def scores(self, answers: pandas.DataFrame) -> Scores:
        """Score the answers; a batch with an output also gets a scored table, as on the command line.

        Raises:
            InputError, OutputError, GradingStopped: as for `batchrun.score`.
        """
        batch = self.call.output if self.call.keeps_output and self.call.output.exists() else None
        output = None if batch is None else self.scoring.options.output or default_scored(str(batch))
        scored = self.scoring.scored(
            answers,
            None if batch is None else str(batch),
            for_comparison=self.baseline is not None,
            output=output,
            batch=batch,
        )
        if scored.lost:
            self.call.caller.warn(scored.lost)
        return self.scoring.scores(scored, self.baseline, output)


def estimated(call: Call, scored: _ScoredRun | None = None) -> DryRunEstimate:
    """Return what a batch would take; send nothing and leave no file.

    Args:
        scored: how its answers would be scored, which is checked too.

    Raises:
        InputError, OutputError: as for the batch.
    """
    with dry_plan(call.job, call.data.table, call.environment, call.output) as plan:
        if scored is not None:
            scored.check(plan, on_no_key=call.caller.warn)
        return DryRunEstimate(dry_run(plan, count=o200k_counter()))


async def piloted(call: Call, size: int, interrupts: Interrupts | None = None) -> PilotEstimate:
    """Run random rows of a batch, and estimate the whole table from them.

    Raises:
        InputError: the answers of the sample would be lost, since no output is named.
        BatchrunError: as for the batch.
    """
    if not call.keeps_output:
        raise InputError("pilot: needs output=..., because without it the rows of the sample would be paid for twice")
    plan = make_plan(call.job, call.data.table, call.environment, call.output)
    call.caller.announce(plan, is_chosen=bool(call.job.model or call.job.script))
    pilot = await run_pilot(plan, call.environment, size, watch=call.watch, interrupts=interrupts)
    if pilot.summary.stop is not None:
        call.caller.warn(pilot.summary.stop.reason)
    return PilotEstimate(pilot, call.output)
