"""`score`, `compare`, `convert`: evaluation of any table."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchrun.cli.app import cli, interrupts, run_loop
from batchrun.cli.console import deliver, facts_line, note, say, warn
from batchrun.cli.options import FiniteRange, LocalPath, SectionedOption
from batchrun.errors import InputError

if TYPE_CHECKING:
    from batchrun.batch.plan import Plan
    from batchrun.batch.run_summary import Summary
    from batchrun.scoring.bars import BarOn
    from batchrun.scoring.evaluate import Bars, Evaluation, ScoringSpec
    from batchrun.scoring.grading.grading import Grading
    from batchrun.scoring.grading.verdicts import Vote
    from batchrun.scoring.score_options import ScoreOptions
    from batchrun.scoring.summary import FailedAs

__all__ = [
    "GRADING_OPTIONS",
    "after_parameters",
    "compare",
    "convert",
    "question_after",
    "score",
    "score_after",
    "scoring_parameters",
    "take_score_options",
]


GRADING_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (
        ("--grader",),
        {
            "multiple": True,
            "type": LocalPath(path_type=Path),
            "metavar": "FILE.toml",
            "help": "Who grades for model-graded: a job file with a rubric as its prompt; may be repeated, for votes",
        },
    ),
    (
        ("--grader-model",),
        {
            "multiple": True,
            "metavar": "NAME",
            "help": "A model that grades for model-graded, by the default rubric; may be repeated, for votes",
        },
    ),
    (
        ("--vote",),
        {
            "type": click.Choice(["majority", "mean"]),
            "help": "What several verdicts come to. Default: mean for grades on a scale, else majority",
        },
    ),
    (
        ("--question",),
        {
            "metavar": "COLUMN|TEMPLATE",
            "help": "The question, for graders. Default: the column prompt or question; in run, what was asked",
        },
    ),
)
"""Options about model-graded scoring, which `score`, `compare` and `run` share."""


_READ_OPTIONS = (
    ("--encoding", "Encoding of text tables. Default: byte order mark, else UTF-8"),
    ("--delimiter", "What separates the cells of CSV. Default: found"),
)


def scoring_parameters(command: Callable[..., Any], *, optional: bool = False, read: bool = True) -> Callable[..., Any]:
    """Add the options that say how a table is to be scored.

    Args:
        optional: it need not be, and no model is asked to grade.
        read: with those that say how the table is read.
    """
    for option in reversed(
        (
            click.option(
                "--scorer",
                "scorers",
                multiple=True,
                required=not optional,
                metavar="[NAME=]KIND[:OPTIONS]",
                help="Rule to score by: exact, includes, regex, numeric, choice, json, fuzzy, f1, rougeL, bleu, math, "
                f"python:FILE.py:function, column{'' if optional else ', model-graded'}; may be repeated",
            ),
            click.option("--target", metavar="COLUMN", help="Column of what was wanted"),
            click.option("--answer", metavar="COLUMN", help="Column of what was answered. Default: response"),
            click.option("--key", metavar="COLUMN", help="Column of row ids; rows that share one are epochs of it"),
            click.option(
                "--epochs-column",
                "epoch",
                metavar="COLUMN",
                help="Column that numbers the repetitions of a row. Default: epoch, if there is one",
            ),
            click.option("--cluster", metavar="COLUMN", help="Rows that share a value here belong together"),
            click.option(
                "--failed-as",
                type=click.Choice(["skip", "wrong"]),
                default="skip",
                show_default=True,
                help="Whether failed rows are left out, or count as 0; they are reported in either case",
            ),
            *(click.option(*flags, **settings) for flags, settings in (() if optional else GRADING_OPTIONS)),
            *(click.option(flag, help=told) for flag, told in (_READ_OPTIONS if read else ())),
        )
    ):
        command = option(command)
    return command


_AFTER_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (
        ("--score", "scorer"),
        {
            "multiple": True,
            "metavar": "[NAME=]KIND[:OPTIONS]",
            "help": "Score the output by this scorer, as batchrun score does; may be repeated",
        },
    ),
    (("--target",), {"metavar": "COLUMN", "help": "Column of what is wanted"}),
    (("--by",), {"multiple": True, "metavar": "COLUMN", "help": "Break the figures down by this column"}),
    (("--cluster",), {"metavar": "COLUMN", "help": "Rows that share a value here belong together"}),
    (
        ("--failed-as",),
        {
            "type": click.Choice(["skip", "wrong"]),
            "help": "Whether failed rows are left out of the score, or count as 0. Default: skip",
        },
    ),
    (
        ("--fail-under",),
        {"type": FiniteRange(0, 1), "metavar": "X", "help": "Exit with 7 if a scorer's mean is lower"},
    ),
    (
        ("--no-worse-than",),
        {
            "type": LocalPath(),
            "metavar": "BASELINE",
            "help": "Exit with 7 if a scorer's mean is lower than this table's",
        },
    ),
    (("--margin",), {"type": FiniteRange(0, 1), "metavar": "X", "help": "How much lower it may be. Default: 0"}),
    (
        ("--bar-on",),
        {
            "type": click.Choice(["value", "interval"]),
            "help": "What has to reach the bar: the figure, or the lower end of its 95 % interval. Default: value",
        },
    ),
    (
        ("--junit",),
        {"type": LocalPath(path_type=Path), "metavar": "FILE.xml", "help": "Write the bars as JUnit XML"},
    ),
    (
        ("--markdown",),
        {"type": LocalPath(path_type=Path), "metavar": "FILE.md", "help": "Write the scores as Markdown"},
    ),
    *GRADING_OPTIONS,
)
"""Options of `run` about the scoring of its output; their names are the fields of `ScoreOptions`."""


class ScoringOption(SectionedOption):
    """An option of `run` about the scoring of its output."""

    section = "Scoring"


def after_parameters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that have the output of a batch scored."""
    for flags, settings in reversed(_AFTER_OPTIONS):
        command = click.option(*flags, cls=ScoringOption, **settings)(command)
    return command


def take_score_options(table: str, flags: dict[str, Any]) -> ScoreOptions | None:
    """How the output of a batch is to be scored: by flags, which are taken out, over the job file; None for not."""
    from batchrun.job.file import is_job_file, read_job_file
    from batchrun.scoring.score_options import make_score_options

    taken = {name.lstrip("-").replace("-", "_"): None for (name, *_), _ in _AFTER_OPTIONS}
    taken["scorer"] = taken.pop("score")
    said = {name: value for name in taken if (value := flags.pop(name, None)) not in (None, ())}
    in_file = read_job_file(Path(table), None, ("score",))[2].get("score") if is_job_file(table) else None
    if in_file is None:
        return make_score_options(said, "--score") if said else None
    if not isinstance(in_file, dict):
        raise InputError(f"{table}: score: a table [score] is expected, got {in_file!r}")
    return make_score_options({**in_file, **said}, f"{table}: score")


def question_after(
    plan: Plan,
    options: ScoreOptions,
    given: Mapping[str, Any],
    *,
    quiet: bool = True,
    leaving: Callable[[int], None] = os._exit,
    on_no_key: Callable[[str], None] | None = None,
) -> ScoringSpec:
    """How the output of a batch is to be scored, checked before the batch.

    Args:
        given: the batch's options: graders that are only a model's name share its service.
        quiet: print nothing while graders are asked.
        leaving: called when they are to be left at once, before the process ends.
        on_no_key: as of `Grading`.
    """
    from batchrun.scoring.evaluate import ScoringSpec
    from batchrun.scoring.score_options import check_question
    from batchrun.scoring.table import ScoreColumns

    columns = ScoreColumns(
        answer=options.answer or f"{plan.job.output_prefix}response",
        target=options.target,
        key=plan.job.key,
        cluster=options.cluster,
        by=options.by,
    )
    # With several prompts or turns there is no one question: then the columns decide.
    asked = options.question or plan.job.prompt
    grading = grading_by(options.grader, options.grader_model, options.vote, asked, given, quiet=quiet, leaving=leaving)
    grading = replace(grading, on_no_key=on_no_key)
    question = ScoringSpec(options.scorer, columns, options.failed_as, grading=grading)
    added = plan.write_options.added_columns
    check_question(str(plan.paths.output), [*plan.source.columns, *added], question, options.no_worse_than)
    return question


def score_after(
    summary: Summary, options: ScoreOptions, question: ScoringSpec, *, quiet: bool, as_json: bool
) -> tuple[int, str]:
    """Score the output of a batch that has come to its end, as `score` does, and print it.

    Returns:
        The exit code, 0 or that of a bar that is missed, and such a bar in a line.
    """
    from batchrun.scoring.evaluate import Bars

    if summary.stop is not None or summary.output is None:
        warn("not scored, since the batch stopped before its end")
        return 0, ""
    bars = Bars(options.fail_under, options.no_worse_than, options.margin or 0.0, options.bar_on)
    name, files = str(summary.output), {"junit": options.junit, "markdown": options.markdown}
    found = evaluated(name, question, bars, output=options.output, **files)
    if as_json:
        say(facts_line({"event": "score", **found.facts()}))
    elif not quiet:
        show(found)
    missed = [f"{bar.name}: {bar.found}" for bar in found.bars if not bar.passed]
    for line in missed if quiet and not as_json else ():
        warn(line)
    return found.exit_code, "; ".join(missed)


@cli.command()
@click.argument("table", type=LocalPath(), metavar="OUTPUT")
@scoring_parameters
@click.option("--by", multiple=True, metavar="COLUMN", help="Break the figures down by this column; may be repeated")
@click.option(
    "-o", "--output", type=LocalPath(path_type=Path), help="Write the scored table there. Default: NAME.scored.ENDING"
)
@click.option("--fail-under", type=FiniteRange(0, 1), help="Exit with 7 if a scorer's mean is lower", metavar="X")
@click.option(
    "--no-worse-than",
    "baseline",
    type=LocalPath(),
    metavar="BASELINE",
    help="Exit with 7 if a scorer's mean is lower than this table's",
)
@click.option("--margin", type=FiniteRange(0, 1), help="How much lower it may be. Default: 0", metavar="X")
@click.option(
    "--bar-on",
    type=click.Choice(["value", "interval"]),
    default="value",
    show_default=True,
    help="What has to reach the bar: the figure, or the lower end of its 95 % interval",
)
@click.option("--junit", type=LocalPath(path_type=Path), metavar="FILE.xml", help="Write the bars as JUnit XML")
@click.option("--markdown", type=LocalPath(path_type=Path), metavar="FILE.md", help="Write a summary as Markdown")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
def score(
    table: str,
    *,
    output: Path | None,
    fail_under: float | None,
    baseline: str | None,
    margin: float | None,
    bar_on: BarOn,
    junit: Path | None,
    markdown: Path | None,
    as_json: bool,
    **question: Any,
) -> int:
    """Score the answers in OUTPUT, or in any table with answers and targets, and say how sure that is."""
    from batchrun.scoring.evaluate import Bars

    if margin is not None and baseline is None:
        raise click.UsageError("--margin goes with --no-worse-than")
    bars = Bars(fail_under, baseline, margin or 0.0, bar_on)
    if junit is not None and not bars.given:
        raise click.UsageError("--junit writes bars: add --fail-under or --no-worse-than")
    wanted = _question(**question, quiet=as_json)
    found = evaluated(table, wanted, bars, output=output, junit=junit, markdown=markdown)
    if as_json:
        say(facts_line(found.facts()))
    else:
        show(found)
    return found.exit_code


def evaluated(
    table: str, question: ScoringSpec, bars: Bars, *, output: Path | None, junit: Path | None, markdown: Path | None
) -> Evaluation:
    """Score a table, and write the files that were asked for."""
    from batchrun.scoring.evaluate import score_table

    found = score_table(table, question, bars, output)
    if junit is not None:
        found.write_junit(junit)
    if markdown is not None:
        found.write_markdown(markdown)
    return found


def show(found: Evaluation) -> None:
    """Print what scores and bars are."""
    from batchrun.scoring.summary_text import bar_lines, score_lines
    from batchrun.wording import shown_path

    say(*score_lines(found.summaries, found.incomplete), *bar_lines(found.bars))
    note(f"written: {shown_path(found.output)}")


@cli.command()
@click.argument("tables", type=LocalPath(), nargs=-1, required=True, metavar="A [B C…]")
@scoring_parameters
@click.option("--split", metavar="COLUMN", help="Compare the rows of one table that differ in this column")
@click.option("--baseline", metavar="VALUE", help="Of --split, what the others are compared with. Default: the first")
@click.option(
    "--detect",
    "detectable",
    type=FiniteRange(0, 1, min_open=True),
    multiple=True,
    metavar="D",
    help="Tell the rows needed to see this difference; may be repeated. Default: 0.01, 0.02 and 0.05",
)
@click.option("--markdown", type=LocalPath(path_type=Path), metavar="FILE.md", help="Write the comparison as Markdown")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all rows that flipped")
def compare(
    tables: tuple[str, ...],
    *,
    detectable: tuple[float, ...],
    baseline: str | None,
    markdown: Path | None,
    as_json: bool,
    **question: Any,
) -> None:
    """Score tables over the same rows, or parts of one table, and say which is better and how sure that is."""
    from batchrun.scoring.comparison import DETECTABLE
    from batchrun.scoring.evaluate import compare_tables
    from batchrun.scoring.summary_text import comparison_lines

    found = compare_tables(
        tables,
        _question(**question, quiet=as_json),
        detectable=detectable or DETECTABLE,
        baseline=baseline,
        markdown=markdown,
    )
    deliver(*([facts_line(found.facts())] if as_json else comparison_lines(found)))


def _question(
    scorers: tuple[str, ...],
    failed_as: FailedAs,
    encoding: str | None,
    delimiter: str | None,
    grader: tuple[Path, ...],
    grader_model: tuple[str, ...],
    vote: Vote | None,
    question: str | None,
    by: tuple[str, ...] = (),
    *,
    quiet: bool,
    **columns: str | None,
) -> ScoringSpec:
    from batchrun.scoring.evaluate import ScoringSpec
    from batchrun.scoring.table import ScoreColumns
    from batchrun.tables import ReadOptions

    grading = grading_by(grader, grader_model, vote, question, quiet=quiet)
    return ScoringSpec(scorers, ScoreColumns(**columns, by=by), failed_as, ReadOptions(encoding, delimiter), grading)


def grading_by(
    graders: Sequence[Path],
    models: Sequence[str],
    vote: Vote | None,
    question: str | None,
    service: Mapping[str, Any] | None = None,
    *,
    quiet: bool,
    leaving: Callable[[int], None] = os._exit,
) -> Grading:
    """How graders are asked, and shown while they are.

    Args:
        graders: job files.
        models: of graders that need no file.
        service: options of a batch that say where these models are.
        quiet: print nothing.
        leaving: called when they are to be left at once, before the process ends.
    """
    from batchrun.job.environment import Environment
    from batchrun.scoring.grading.grader import Grader, load_grader
    from batchrun.scoring.grading.grading import GraderReport, Grading, grader_lines

    environment = Environment.read(os.environ)

    def run(plan: Plan) -> Summary:
        from batchrun.batch.run import run_batch
        from batchrun.cli.progress import seen

        watch, leave = seen(plan, leaving, quiet=quiet, as_json=False)
        return run_loop(run_batch(plan, environment, watch=watch, interrupts=interrupts(), leave=leave))

    def tell(report: GraderReport) -> None:
        if not quiet:
            note(*grader_lines([report]))

    def load(path: Path) -> Grader:
        return load_grader(path, os.environ)

    return Grading(
        environment=environment,
        run=run,
        graders=[
            *map(load, graders),
            *(Grader.of_model(name, service or {}, f"--grader-model {name}") for name in models),
        ],
        load=load,
        vote=vote,
        question=question,
        tell=tell,
    )


@cli.command()
@click.argument("file", type=LocalPath(), metavar="INPUT")
@click.argument("output", type=LocalPath(path_type=Path))
@click.option(
    "--from",
    "given",
    type=click.Choice(["table", "openai-evals", "batch-requests", "batch-results", "inspect", "promptfoo"]),
    default="table",
    show_default=True,
    help="What INPUT is",
)
@click.option(
    "--to",
    "wanted",
    type=click.Choice(["table", "openai-evals", "batch-requests", "batch-results", "inspect", "promptfoo"]),
    default="table",
    show_default=True,
    help="What OUTPUT is to be",
)
@click.option("--prompt", metavar="COLUMN", help="What is asked. Default: question or prompt")
@click.option("--target", metavar="COLUMN", help="What is wanted. Default: target or answer")
@click.option("--key", metavar="COLUMN", help="Ids of rows. Default: custom_id or id, else the rows are counted")
@click.option("--model", metavar="NAME", help="Model of batch requests")
@click.option(
    "--join",
    type=LocalPath(),
    metavar="TABLE",
    help="Put batch results beside the rows of this table, matched by --key",
)
def convert(file: str, output: Path, **options: Any) -> None:
    """Make a table of another tool's file, or the other way round; what does not map is listed."""
    from batchrun.scoring.formats.convert import Conversion
    from batchrun.scoring.formats.convert import convert as convert_file
    from batchrun.wording import rows_text

    rows, notes = convert_file(file, output, Conversion(**options))
    note(*notes.lines(), f"{rows_text(rows)} written: {output}")
