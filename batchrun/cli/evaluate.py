"""`score`, `compare`: evaluation of any table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from batchrun.cli.app import cli
from batchrun.cli.console import facts_line, note, print_result, print_summary
from batchrun.cli.env_file import env_file_option
from batchrun.cli.graders import grading_for, print_costs
from batchrun.cli.logs import with_log
from batchrun.cli.options import FiniteRange, SectionedOption, TablePath
from batchrun.cli.remote_tables import local_table, need_output
from batchrun.cli.scoring_flags import CompareCommand, ComparisonOption, ScoreCommand, parsed_options, scoring_flags
from batchrun.local_paths import is_url, shown_url

if TYPE_CHECKING:
    from batchrun.scoring.evaluate import Evaluation, ScoringSpec
    from batchrun.scoring.score_options import ScoreOptions

__all__ = ["compare", "evaluate", "print_evaluation", "score"]


@cli.command(cls=ScoreCommand)
@click.argument("table", type=TablePath(), metavar="OUTPUT")
@scoring_flags("score")
@env_file_option
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print what graders and embeddings would take, and send nothing",
    cls=SectionedOption,
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON", cls=SectionedOption)
@with_log()
def score(table: str, *, dry_run: bool, as_json: bool, **flags: Any) -> int:
    """Score the answers of a batch, or of any table.

    The table needs answers and, for most scorers, expected answers. Scores are printed with confidence intervals.
    """
    from batchrun.scoring.evaluate import scoring_spec
    from batchrun.scoring.score_options import missing_option

    options = parsed_options(flags)
    if (problem := missing_option(options, lambda name: f"--{name.replace('_', '-')}")) is not None:
        raise click.UsageError(problem)
    if not dry_run:
        need_output(table, options.output)
    table = local_table(table)
    spec = scoring_spec(options, grading_for(options, quiet=as_json, is_dry=dry_run))
    if dry_run:
        from batchrun.api.scoring_estimate import request_cost

        assert spec.grading is not None
        cost_of = request_cost(spec.grading.environment)
        costs = spec.costs(table, cost_of)
        if options.no_worse_than is not None:
            costs += spec.for_baseline.costs(options.no_worse_than, cost_of)
        print_costs(costs, as_json=as_json)
        return 0
    evaluation = evaluate(table, options, spec)
    if as_json:
        print_summary(facts_line(evaluation.facts()))
    else:
        print_evaluation(evaluation)
    return evaluation.exit_code


def evaluate(table: str, options: ScoreOptions, spec: ScoringSpec) -> Evaluation:
    """Score a table, check the bars, and write the files that the options name."""
    from batchrun.scoring.evaluate import Bars, score_table

    evaluation = score_table(table, spec, Bars.of(options), options.output)
    if options.junit is not None:
        evaluation.write_junit(options.junit)
    if options.markdown is not None:
        evaluation.write_markdown(options.markdown)
    return evaluation


def print_evaluation(evaluation: Evaluation) -> None:
    """Print scores and bars, and where the scored table is."""
    from batchrun.scoring.labels.label_report import label_lines
    from batchrun.scoring.summary_text import bar_lines, score_lines
    from batchrun.wording import shown_path

    lines = [*score_lines(evaluation.summaries, evaluation.incomplete), *label_lines(evaluation.labels)]
    print_summary(*lines, *bar_lines(evaluation.bars))
    if evaluation.output is not None:
        note(f"written: {shown_path(evaluation.output)}", *filter(None, [evaluation.notice]))


@cli.command(cls=CompareCommand)
@click.argument("tables", type=TablePath(), nargs=-1, required=True, metavar="A [B C…]")
@scoring_flags("compare")
@env_file_option
@click.option(
    "--baseline",
    metavar="VALUE",
    help="With --split: the value the others are compared against. Default: every pair is compared",
    cls=ComparisonOption,
)
@click.option(
    "--detect",
    "detectable",
    type=FiniteRange(0, 1, min_open=True),
    multiple=True,
    metavar="D",
    help="Difference for which to print the required number of rows. May be repeated. Default: 0.01, 0.02 and 0.05",
    cls=ComparisonOption,
)
@click.option(
    "--judge",
    metavar="MODEL|FILE.toml",
    help="Model, or a grader's job file, that prefers one of two answers to a row; it is asked in both orders",
    cls=ComparisonOption,
)
@click.option(
    "--dry-run", is_flag=True, help="With --judge: print what it would cost, and send nothing", cls=ComparisonOption
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all rows that flipped", cls=SectionedOption)
@with_log()
def compare(
    tables: tuple[str, ...],
    *,
    detectable: tuple[float, ...],
    baseline: str | None,
    judge: str | None,
    dry_run: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Compare the scores of tables, or of parts of one table.

    The tables are matched row by row, and compared by their scores or by a judge. Differences are printed with
    confidence intervals and p-values.
    """
    from batchrun.scoring.comparison_text import comparison_lines
    from batchrun.scoring.evaluate import check_comparison, compare_tables, scoring_spec
    from batchrun.scoring.pairing import DETECTABLE

    options = parsed_options(flags)
    if not options.scorer and judge is None:
        raise click.UsageError("compare requires --scorer or --judge")
    if dry_run and (judge is None or options.scorer):
        raise click.UsageError("--dry-run prices the judge alone: give --judge, and no --scorer")
    spec = scoring_spec(options, grading_for(options, quiet=as_json, is_dry=dry_run, judge=judge))
    check_comparison([shown_url(name) if is_url(name) else name for name in tables], spec.columns, baseline)
    tables = tuple(map(local_table, tables))
    if judge is not None:
        if detectable:
            raise click.UsageError("--judge compares the answers themselves: --detect has no effect")
        judge_tables(tables, spec, judge, options, baseline=baseline, dry_run=dry_run, as_json=as_json)
        return
    comparison = compare_tables(
        tables,
        spec,
        detectable=detectable or DETECTABLE,
        baseline=baseline,
        markdown=options.markdown,
    )
    print_result(*([facts_line(comparison.facts())] if as_json else comparison_lines(comparison)))


def judge_tables(
    tables: tuple[str, ...],
    spec: ScoringSpec,
    judge: str,
    options: ScoreOptions,
    *,
    baseline: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Ask the judge of `compare --judge`, and print its preferences, or what they would cost."""
    from batchrun.scoring.pairwise.judge import check_judged, judge_costs, judge_of, judged
    from batchrun.scoring.pairwise.judged_text import judged_facts, judged_lines, judged_markdown
    from batchrun.tables.atomic import replacing

    check_judged(options)
    grading = spec.grading
    assert grading is not None
    asked = judge_of(judge, grading)
    opened = [spec.unscored(name) for name in tables]
    if dry_run:
        from batchrun.api.scoring_estimate import request_cost

        cost_of = request_cost(grading.environment)
        print_costs(judge_costs(opened, asked, grading, cost_of, baseline), as_json=as_json)
        return
    results = judged(opened, asked, grading, baseline)
    lines = judged_lines(results)
    if options.markdown is not None:
        with replacing(options.markdown) as file:
            file.write(judged_markdown(results).encode("utf-8", "replace"))
    print_result(*([facts_line({"judged": list(map(judged_facts, results))})] if as_json else lines))
