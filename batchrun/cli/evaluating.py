"""`score`, `compare`, `convert`: evaluation of any table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchrun.cli.group import cli

if TYPE_CHECKING:
    from batchrun.scoring.bars import BarOn
    from batchrun.scoring.evaluating import Question
    from batchrun.scoring.summary import FailedAs

__all__ = ["compare", "convert", "score", "scoring_parameters"]


def scoring_parameters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how a table is to be scored."""
    for option in reversed(
        (
            click.option(
                "--scorer",
                "scorers",
                multiple=True,
                required=True,
                metavar="[NAME=]KIND[:OPTIONS]",
                help="Rule to score by: exact, includes, regex, numeric, choice, json, fuzzy, f1, rougeL, bleu, math, "
                "python:FILE.py:function, column; may be repeated",
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
            click.option("--encoding", help="Encoding of text tables. Default: byte order mark, else UTF-8"),
            click.option("--delimiter", help="What separates the cells of CSV. Default: found"),
        )
    ):
        command = option(command)
    return command


@cli.command()
@click.argument("table", metavar="OUTPUT")
@scoring_parameters
@click.option("--by", multiple=True, metavar="COLUMN", help="Break the figures down by this column; may be repeated")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write the scored table there. Default: NAME.scored.ENDING"
)
@click.option("--fail-under", type=click.FloatRange(0, 1), help="Exit with 7 if a scorer's mean is lower", metavar="X")
@click.option(
    "--no-worse-than", "baseline", metavar="BASELINE", help="Exit with 7 if a scorer's mean is lower than this table's"
)
@click.option("--margin", type=click.FloatRange(0, 1), help="How much lower it may be. Default: 0", metavar="X")
@click.option(
    "--bar-on",
    type=click.Choice(["value", "interval"]),
    default="value",
    show_default=True,
    help="What has to reach the bar: the figure, or the lower end of its 95 % interval",
)
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE.xml", help="Write the bars as JUnit XML")
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE.md", help="Write a summary as Markdown")
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
    import json

    from batchrun.scoring.evaluating import Bars, score_table
    from batchrun.scoring.lines import bar_lines, score_lines

    if margin is not None and baseline is None:
        raise click.UsageError("--margin goes with --no-worse-than")
    bars = Bars(fail_under, baseline, margin or 0.0, bar_on)
    if junit is not None and not bars.given:
        raise click.UsageError("--junit writes bars: add --fail-under or --no-worse-than")
    found = score_table(table, _question(**question), bars, output)
    if junit is not None:
        found.write_junit(junit)
    if markdown is not None:
        found.write_markdown(markdown)
    if as_json:
        click.echo(json.dumps(found.facts(), ensure_ascii=False))
    else:
        click.echo("\n".join([*score_lines(found.summaries, found.incomplete), *bar_lines(found.bars)]))
        click.echo(f"written: {found.output}", err=True)
    return found.exit_code


@cli.command()
@click.argument("tables", nargs=-1, required=True, metavar="A [B C…]")
@scoring_parameters
@click.option("--split", metavar="COLUMN", help="Compare the rows of one table that differ in this column")
@click.option("--baseline", metavar="VALUE", help="Of --split, what the others are compared with. Default: the first")
@click.option(
    "--detect",
    "detectable",
    type=click.FloatRange(0, 1, min_open=True),
    multiple=True,
    metavar="D",
    help="Tell the rows needed to see this difference; may be repeated. Default: 0.01, 0.02 and 0.05",
)
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE.md", help="Write the comparison as Markdown")
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
    import json

    from batchrun.scoring.comparing import DETECTABLE
    from batchrun.scoring.evaluating import compare_tables
    from batchrun.scoring.lines import comparison_lines

    found = compare_tables(
        tables,
        _question(**question),
        detectable=detectable or DETECTABLE,
        baseline=baseline,
        markdown=markdown,
    )
    click.echo(json.dumps(found.facts(), ensure_ascii=False) if as_json else "\n".join(comparison_lines(found)))


def _question(
    scorers: tuple[str, ...],
    failed_as: FailedAs,
    encoding: str | None,
    delimiter: str | None,
    by: tuple[str, ...] = (),
    **columns: str | None,
) -> Question:
    from batchrun.scoring.evaluating import Question
    from batchrun.scoring.table import Columns
    from batchrun.tables import ReadOptions

    return Question(scorers, Columns(**columns, by=by), failed_as, ReadOptions(encoding, delimiter))


@cli.command()
@click.argument("file", metavar="INPUT")
@click.argument("output", type=click.Path(path_type=Path))
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
@click.option("--join", metavar="TABLE", help="Put batch results beside the rows of this table, matched by --key")
def convert(file: str, output: Path, **options: Any) -> None:
    """Make a table of another tool's file, or the other way round; what does not map is listed."""
    from batchrun.scoring.converting import Conversion
    from batchrun.scoring.converting import convert as convert_file
    from batchrun.wording import rows_text

    rows, notes = convert_file(file, output, Conversion(**options))
    for line in notes.lines():
        click.echo(line, err=True)
    click.echo(f"{rows_text(rows)} written: {output}", err=True)
