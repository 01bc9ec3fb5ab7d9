"""Displays of a running batch or cleanup: drawn in place on a terminal, as lines elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO, TypeAlias

import anyio

from batchrun.batch.cleanup_summary import CleanupSummary, cleanup_progress
from batchrun.batch.progress import LINE_EVERY_S, BatchView, Progress, ProgressFacts, counts_text, spending_text
from batchrun.batch.service_batch_text import service_batch_lines
from batchrun.clock import utc_now
from batchrun.wording import duration, visible_line

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["watch_cleanup", "watch_lines", "watch_renderable", "watch_terminal"]

ShowLine: TypeAlias = Callable[[str], None]
"""Shows one line."""

FRAME_EVERY_S = 0.25
NEWS_EVERY_S = 1.0
BATCHES_EVERY_S = 600.0
"""Seconds between two lines while nothing but the service's Batch API works, which takes hours."""


async def watch_terminal(
    view: BatchView, console: Console, ready: Callable[[], bool], *, keeps_last: bool = False
) -> None:
    """Draw the batch in place, four times a second, until cancelled.

    Args:
        ready: returns whether the terminal accepts output now. A frame that it does not accept is left out, so that a
            suspended terminal does not block the batch.
        keeps_last: leave the last state on the terminal; otherwise nothing stays.
    """
    from rich.live import Live

    with Live(console=console, auto_refresh=False, transient=not keeps_last) as live:

        def show(facts: ProgressFacts) -> None:
            if ready():
                if facts["stopping"] is not None:
                    console.show_cursor()  # a second Ctrl-C ends the process before anything can show it again
                live.update(_panel(facts, embedded=view.embedded), refresh=True)

        await _watch(view, show)


async def watch_renderable(view: BatchView, show: Callable[[RenderableType], None]) -> None:
    """Pass the batch to `show`, to be drawn in place of the last, four times a second and a last time at the end."""
    await _watch(view, lambda facts: show(_panel(facts, embedded=view.embedded)))


async def _watch(view: BatchView, show: Callable[[ProgressFacts], None]) -> None:
    """Show the state of the batch until cancelled, and its last state then."""
    progress = Progress(view.rows)
    try:
        while True:
            show(progress.take(view.statistics(), anyio.current_time(), view.service_batches()))
            await anyio.sleep(FRAME_EVERY_S)
    finally:
        show(progress.take(view.statistics(), anyio.current_time(), view.service_batches()))


def _panel(facts: ProgressFacts, *, embedded: bool) -> RenderableType:
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
    batches = service_batch_lines(facts["service_batches"], utc_now())
    lines = [Text(f"  {visible_line(line)}") for line in batches]
    return Group(top, Text(f"  {counts}"), *lines, Text(f"  {spending}", style="dim"))


async def watch_lines(view: BatchView, show_line: ShowLine, *, as_json: bool, every_s: float = LINE_EVERY_S) -> None:
    """Show a line every `every_s` seconds until cancelled: text for logs, or JSON for machines."""
    progress = Progress(view.rows)
    progress.take(view.statistics(), anyio.current_time())
    shown_s, shown_done = anyio.current_time(), -1
    try:
        while True:
            await _sleep(view, every_s, show_line, as_json=as_json)
            facts = progress.take(view.statistics(), anyio.current_time(), view.service_batches())
            waits = bool(facts["service_batches"]) and facts["done"] == shown_done
            if waits and anyio.current_time() - shown_s < BATCHES_EVERY_S:
                continue
            shown_s, shown_done = anyio.current_time(), facts["done"]
            show_line(json.dumps({"event": "progress", **facts}) if as_json else _line(facts, embedded=view.embedded))
    finally:
        _show_news(view, show_line, as_json=as_json)


async def _sleep(view: BatchView, seconds: float, show_line: ShowLine, *, as_json: bool) -> None:
    """Sleep; show meanwhile what happens to batches at the service's Batch API."""
    if view.news is None:
        await anyio.sleep(seconds)
        return
    end_s = anyio.current_time() + seconds
    while (left_s := end_s - anyio.current_time()) > 0:
        await anyio.sleep(min(left_s, NEWS_EVERY_S))
        _show_news(view, show_line, as_json=as_json)


def _show_news(view: BatchView, show_line: ShowLine, *, as_json: bool) -> None:
    while view.news:
        facts = view.news.popleft()
        show_line(json.dumps(facts) if as_json else facts["text"])


def _line(facts: ProgressFacts, *, embedded: bool) -> str:
    parts = [f"{facts['done']:,}/{facts['rows']:,}", counts_text(facts), spending_text(facts, embedded=embedded)]
    return " · ".join([*parts, *service_batch_lines(facts["service_batches"], utc_now())])


async def watch_cleanup(terminal: TextIO, show_line: ShowLine, summary: CleanupSummary) -> None:
    """Show how far a cleanup is until cancelled: a line that is rewritten on a terminal, lines elsewhere.

    Args:
        terminal: receives the rewritten line if it is a terminal; else `show_line` receives the lines.
    """
    if not terminal.isatty():
        while True:
            await anyio.sleep(LINE_EVERY_S)
            show_line(cleanup_progress(summary))
    try:
        while True:
            await anyio.sleep(FRAME_EVERY_S)
            terminal.write(f"{visible_line(cleanup_progress(summary))}\x1b[K\r")
    finally:
        terminal.write("\x1b[K")
