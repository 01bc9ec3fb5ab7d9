"""`run --score`: the output of a batch, scored when the batch has ended."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from batchrun.cli.console import facts_line, note, print_summary, warn
from batchrun.cli.evaluate import evaluate, print_evaluation
from batchrun.cli.graders import grading_for
from batchrun.records import Settings

if TYPE_CHECKING:
    from batchrun.batch.plan import Plan
    from batchrun.batch.run_summary import Summary
    from batchrun.scoring.evaluate import ScoringSpec
    from batchrun.scoring.score_options import ScoreOptions

__all__ = ["run_spec", "score_run"]


def run_spec(
    plan: Plan,
    options: ScoreOptions,
    given: Settings,
    *,
    quiet: bool = True,
    before_exit: Callable[[int], None] = os._exit,
    on_no_key: Callable[[str], None] | None = None,
) -> ScoringSpec:
    """Return how the output of a batch is scored, checked before the batch starts.

    Args:
        given: the batch's options; the graders of `--grader-model` share its service.
        quiet: print nothing while graders are asked.
        before_exit: called before the process exits at once.
        on_no_key: see `Grading`.
    """
    from batchrun.scoring.after_batch import with_batch_columns
    from batchrun.scoring.evaluate import scoring_spec
    from batchrun.scoring.precheck import check_spec

    options = with_batch_columns(options, plan.job)
    grading = grading_for(options, given, quiet=quiet, before_exit=before_exit)
    spec = scoring_spec(options, replace(grading, on_no_key=on_no_key))
    columns = [*plan.source.columns, *plan.write_options.added_columns]
    check_spec(str(plan.paths.output), columns, spec, options.no_worse_than)
    return spec


def score_run(
    summary: Summary, options: ScoreOptions, spec: ScoringSpec, *, quiet: bool, as_json: bool
) -> tuple[int, str]:
    """Score the output of a batch that ran to its end, as `score` does, and print the result.

    Returns:
        The exit code, 0 or that of a missed bar, and the missed bars in one line.
    """
    if summary.is_submitted:
        if not quiet and not as_json:
            note("not scored yet: answers are missing")
        return 0, ""
    if summary.stop is not None or summary.output is None:
        warn("not scored, since the batch stopped before its end")
        return 0, ""
    evaluation = evaluate(str(summary.output), options, spec)
    if as_json:
        print_summary(facts_line({"event": "score", **evaluation.facts()}))
    elif not quiet:
        print_evaluation(evaluation)
    missed = [f"{bar.name}: {bar.found}" for bar in evaluation.bars if not bar.passed]
    for line in missed if quiet and not as_json else ():
        warn(line)
    return evaluation.exit_code, "; ".join(missed)
