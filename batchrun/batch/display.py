"""What a batch looks like to the person who waits for it: a live display on a terminal, lines elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

import anyio

from batchrun.batch.progress import LINE_EVERY_S, Progress, counts_text, spending_text
from batchrun.wording import duration, visible_line

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from batchrun.batch.cleanup_summary import CleanupSummary
    from batchrun.batch.progress import BatchView

__all__ = ["watch_cleanup", "watch_lines", "watch_terminal"]

Tell: TypeAlias = Callable[[str], None]
"""Shows one line."""

FRAME_EVERY_S = 0.25


# -- on a terminal ------------------------------------------------------------------------------------------


async def watch_terminal(view: BatchView, console: Console, ready: Callable[[], bool]) -> None:
    """Draw the batch in place, four times a second, until cancelled.

    Args:
        ready: whether the terminal takes something now; a frame that it does not take is left out.
    """
    from rich.live import Live

    progress = Progress(view.rows)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            facts = progress.take(view.statistics(), anyio.current_time())
            if ready():
                if facts["stopping"] is not None:
                    console.show_cursor()  # a second Ctrl-C ends the process before anything could do it
                live.update(_panel(facts, embedded=view.embedded), refresh=True)
            await anyio.sleep(FRAME_EVERY_S)


def _panel(facts: dict[str, Any], *, embedded: bool) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    share = facts["done"] / facts["rows"] if facts["rows"] else 1.0
    top = Table.grid(padding=(0, 1))
    top.add_row(
        ProgressBar(total=facts["rows"], completed=facts["done"], width=36),
        f"{facts['done']:,}/{facts['rows']:,}",
        f"{share:.0%}",
        f"[dim]{duration(facts['left_s'])} left[/dim]" if facts["left_s"] is not None else "",
    )
    counts, spending = visible_line(counts_text(facts)), visible_line(spending_text(facts, embedded=embedded))
    return Group(top, Text(f"  {counts}"), Text(f"  {spending}", style="dim"))


# -- elsewhere ----------------------------------------------------------------------------------------------


async def watch_lines(view: BatchView, tell: Tell, *, as_json: bool, every_s: float = LINE_EVERY_S) -> None:
    """Tell a line every `every_s` seconds until cancelled: for logs, or as JSON for machines."""
    progress = Progress(view.rows)
    progress.take(view.statistics(), anyio.current_time())
    while True:
        await anyio.sleep(every_s)
        facts = progress.take(view.statistics(), anyio.current_time())
        if as_json:
            line = json.dumps({"event": "progress", **facts})
        else:
            spending = spending_text(facts, embedded=view.embedded)
            line = f"{facts['done']:,}/{facts['rows']:,} · {counts_text(facts)} · {spending}"
        tell(line)


async def watch_cleanup(terminal: TextIO, tell: Tell, summary: CleanupSummary) -> None:
    """Show how far a cleanup is until cancelled: one line that is written over on a terminal, lines elsewhere.

    Args:
        terminal: takes the line and what moves the cursor, where it is a terminal; elsewhere `tell` gets the lines.
    """
    from batchrun.batch.cleanup_summary import cleanup_progress

    if not terminal.isatty():
        while True:
            await anyio.sleep(LINE_EVERY_S)
            tell(cleanup_progress(summary))
    try:
        while True:
            await anyio.sleep(FRAME_EVERY_S)
            terminal.write(f"{visible_line(cleanup_progress(summary))}\x1b[K\r")
    finally:
        terminal.write("\x1b[K")


# -- at the end ---------------------------------------------------------------------------------------------
