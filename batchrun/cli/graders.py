"""How commands ask graders: each grader's batch runs and is displayed like any other batch."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from batchrun.cli.app import interrupts, run_loop
from batchrun.cli.console import facts_line, note, print_summary, warn
from batchrun.cli.env_file import announce_env_file, read_environment, variables_for
from batchrun.records import Settings

if TYPE_CHECKING:
    from batchrun.batch.plan import Plan
    from batchrun.batch.run_summary import Summary
    from batchrun.scoring.grading.grader_report import GraderReport
    from batchrun.scoring.grading.grading import Grading
    from batchrun.scoring.grading.grading_cost import ScoringCosts
    from batchrun.scoring.score_options import ScoreOptions

__all__ = ["grading_for", "print_costs"]


def grading_for(
    options: ScoreOptions,
    service: Settings | None = None,
    *,
    quiet: bool,
    before_exit: Callable[[int], None] = os._exit,
    is_dry: bool = False,
    judge: str | None = None,
) -> Grading:
    """Return how the graders of `options` are asked.

    Args:
        service: options of a batch whose service the graders of `--grader-model` share.
        quiet: print nothing.
        before_exit: called before the process exits at once.
        is_dry: nothing will be sent, so that a missing key is only a warning.
        judge: the judge of `compare`; None if there is none.
    """
    from batchrun.job.environment import Environment
    from batchrun.scoring.grading.grader_report import grader_lines
    from batchrun.scoring.grading.grading import Grading

    # Other scorers need no key: their commands read no .env.
    uses_graders = (
        judge
        or options.grader
        or options.grader_model
        or any(re.search(r"(^|=)(model-graded|cosine)(:|$)", spec) for spec in options.scorer)
    )
    environment = read_environment() if uses_graders else Environment()

    def run(plan: Plan) -> Summary:
        from batchrun.batch.run import run_batch
        from batchrun.cli.progress import progress_of

        announce_env_file()  # the files of a scorer's own graders are read late
        watch, leave = progress_of(plan, before_exit, quiet=quiet, as_json=False)
        return run_loop(partial(run_batch, plan, environment, watch=watch, interrupts=interrupts(), leave=leave))

    def report(done: GraderReport) -> None:
        if not quiet:
            note(*grader_lines([done]))

    environ = variables_for() if uses_graders else os.environ
    grading = Grading.of(options, environment, run, environ=environ, service=service, tell=report)
    if uses_graders:
        announce_env_file()
    return replace(grading, on_no_key=warn) if is_dry else grading


def print_costs(costs: ScoringCosts, *, as_json: bool) -> None:
    """Print what the requests of a scoring would cost."""
    print_summary(*([facts_line(costs.facts())] if as_json else costs.lines()))
