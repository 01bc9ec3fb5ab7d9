"""`report`, `view`: a batch as a page."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrun.cli.app import cli
from batchrun.cli.console import note
from batchrun.cli.evaluate import scoring_parameters
from batchrun.cli.inspect import output_argument
from batchrun.cli.options import LocalPath

if TYPE_CHECKING:
    from batchrun.scoring.summary import FailedAs

__all__ = ["report", "view"]

_MOST_ROWS = 100_000


_scoring = partial(scoring_parameters, optional=True)
_by = click.option(
    "--by", multiple=True, metavar="COLUMN", help="Break the figures down by this column; may be repeated"
)


@cli.command()
@output_argument
@click.option(
    "-o", "--output", "to", type=LocalPath(path_type=Path), help="Write there. Default: NAME.report.html beside it"
)
@_scoring
@_by
@click.option(
    "--compare",
    "baseline",
    type=LocalPath(),
    metavar="BASELINE",
    help="Compare with this table, row by row; needs --key",
)
@click.option(
    "--rows",
    "most_rows",
    type=click.IntRange(min=0),
    default=_MOST_ROWS,
    show_default=True,
    help="Most rows to put into the page; figures are over all",
    metavar="N",
)
def report(
    output: Path,
    *,
    to: Path | None,
    scorers: tuple[str, ...],
    failed_as: FailedAs,
    encoding: str | None,
    delimiter: str | None,
    by: tuple[str, ...],
    baseline: str | None,
    most_rows: int,
    **columns: str | None,
) -> None:
    """Write one page about OUTPUT, or about any table with answers: figures, charts, and every row.

    The page is one HTML file that needs no network. It is richer when the batch's journal lies beside OUTPUT. A job
    file stands for the output that it names.
    """
    from batchrun.clock import utc_now
    from batchrun.report.html import report_page
    from batchrun.report.report import check_page, default_report, make_report, page_data
    from batchrun.scoring.evaluate import ScoringSpec
    from batchrun.scoring.table import ScoreColumns
    from batchrun.tables import ReadOptions
    from batchrun.tables.atomic import replacing

    target = to or default_report(output)
    check_page(target)
    question = ScoringSpec(scorers, ScoreColumns(**columns, by=by), failed_as, ReadOptions(encoding, delimiter))
    found = make_report(output, question, baseline=baseline, clock=utc_now)
    with replacing(target) as file:
        file.write(report_page(page_data(found, most_rows)))
    note(f"written: {target}")


@cli.command()
@output_argument
@click.option(
    "--port", default=0, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one"
)
@click.option(
    "--browser/--no-browser", default=None, help="Open the page in a browser. Default: where there is a display"
)
@partial(_scoring, read=False)
@_by
def view(
    output: Path,
    *,
    port: int,
    browser: bool | None,
    scorers: tuple[str, ...],
    failed_as: FailedAs,
    by: tuple[str, ...],
    **columns: str | None,
) -> None:
    """Serve a page about the batch behind OUTPUT that keeps up with it, until Ctrl-C.

    Only this machine can reach it, and only who knows the address that is printed. It works while the batch runs and
    after it, and never holds it up. A job file stands for the output that it names.
    """
    from batchrun.clock import utc_now
    from batchrun.report.serve import view_forever
    from batchrun.scoring.evaluate import ScoringSpec
    from batchrun.scoring.table import ScoreColumns

    wanted = _has_display() if browser is None else browser

    def started(url: str) -> None:
        note(url, "Ctrl-C ends it")
        if wanted:
            import webbrowser

            webbrowser.open(url)

    question = ScoringSpec(scorers, ScoreColumns(**columns, by=by), failed_as)
    view_forever(output, port, utc_now, started, question)


def _has_display() -> bool:
    """Whether a browser would have a window: elsewhere it would take over the terminal."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
