"""The commands `report` and `view`, which show a batch as a page."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from batchrun.cli.app import cli
from batchrun.cli.console import note
from batchrun.cli.inspect import named_output, output_argument
from batchrun.cli.options import LocalPath, TablePath
from batchrun.cli.remote_tables import local_table, need_output
from batchrun.cli.scoring_flags import parsed_options, scoring_flags
from batchrun.local_paths import is_url

__all__ = ["report", "view"]

_MOST_ROWS = 100_000

_rows_option = click.option(
    "--rows",
    "most_rows",
    type=click.IntRange(min=0),
    default=_MOST_ROWS,
    show_default=True,
    help="Maximum rows on the page; the figures cover all rows",
    metavar="N",
)


@cli.command()
@click.argument("output", type=TablePath(), metavar="OUTPUT|JOB.toml")
@click.option(
    "-o",
    "--output",
    "page",
    type=LocalPath(path_type=Path),
    help="File to write. Default: NAME.report.html next to OUTPUT",
)
@scoring_flags("report")
@click.option(
    "--compare",
    "baseline",
    type=TablePath(),
    metavar="BASELINE",
    help="Table to compare with, row by row; needs --key",
)
@_rows_option
def report(output: str, *, page: Path | None, baseline: str | None, most_rows: int, **flags: Any) -> None:
    """Write a report page about a batch or a table.

    The table must have answers. The page is one HTML file with figures, charts and rows. It needs no network. It shows
    more if the batch's journal is next to OUTPUT. If a job file is given, the output that it names is used.
    """
    from batchrun.clock import utc_now
    from batchrun.reporting.html import report_page
    from batchrun.reporting.report import check_page, default_report, make_report, page_data
    from batchrun.scoring.evaluate import scoring_spec
    from batchrun.tables.atomic import replacing

    need_output(output, page)
    table = Path(local_table(output)) if is_url(output) else named_output(click.get_current_context(), output)
    target = page or default_report(table)
    check_page(target)
    other = None if baseline is None else local_table(baseline)
    made = make_report(table, scoring_spec(parsed_options(flags)), baseline=other, clock=utc_now)
    with replacing(target) as file:
        file.write(report_page(page_data(made, most_rows)))
    note(f"written: {target}")


@cli.command()
@output_argument
@click.option(
    "--port",
    default=0,
    show_default=True,
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Port to listen on; 0 selects a free one",
)
@click.option(
    "--browser/--no-browser",
    default=None,
    help="Whether to open the page in a browser. Default: only if there is a display",
)
@scoring_flags("view")
@_rows_option
def view(output: Path, *, port: int, browser: bool | None, most_rows: int, **flags: Any) -> None:
    """Serve a page that follows a batch live, until Ctrl-C.

    The page can be reached only from this machine and only at the address that the command prints. It works while the
    batch runs and after it has ended, and does not slow it down. What you note about rows on the page is kept in
    OUTPUT.notes.csv. If a job file is given, the output that it names is used.
    """
    from batchrun.clock import utc_now
    from batchrun.reporting.serve import view_forever
    from batchrun.scoring.evaluate import scoring_spec

    opens_browser = _has_display() if browser is None else browser

    def started(url: str) -> None:
        note(url, "stop with Ctrl-C")
        if opens_browser:
            import webbrowser

            webbrowser.open(url)

    view_forever(output, port, utc_now, started, scoring_spec(parsed_options(flags)), most_rows)


def _has_display() -> bool:
    """Return whether a browser could open a window: without one it would take over the terminal."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
