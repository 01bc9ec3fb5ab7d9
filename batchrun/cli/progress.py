"""The progress display of a batch, and how a command ends at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TextIO, cast

from batchrun.cli.console import note, now_text, progress_line, terminal, waiting_line
from batchrun.cli.logs import is_verbose
from batchrun.local_paths import is_url, shown_url

if TYPE_CHECKING:
    from rich.console import Console

    from batchrun.batch.plan import Plan
    from batchrun.batch.progress import BatchView, Watch
    from batchrun.cli.safe_stream import SafeStream

__all__ = ["progress_of", "reading"]


@contextmanager
def reading(input_name: str, *, quiet: bool) -> Iterator[None]:
    """Show on a terminal that the input is being read, while the block plans a batch; a large table takes seconds.

    Nothing is shown for standard input, which may be typed at the same terminal, and between the lines of --verbose.
    """
    shown = shown_url(input_name) if is_url(input_name) else input_name
    with nullcontext() if quiet or input_name == "-" or is_verbose() else waiting_line(f"reading {shown} …"):
        yield


async def _watch_instead(waiting: ExitStack, watch: Watch, view: BatchView) -> None:
    """Erase a waiting line, and watch the batch."""
    waiting.close()
    await watch(view)


def progress_of(
    plan: Plan, before_exit: Callable[[int], None], *, quiet: bool, as_json: bool
) -> tuple[Watch | None, Callable[[int], NoReturn]]:
    """Print the notices of a batch; return the watcher that displays its progress, and the forced-exit callback.

    Args:
        plan: the batch.
        before_exit: called with the exit code before the process exits at once, as after a second Ctrl-C.
        quiet: print nothing; the watcher is None.
        as_json: print progress as JSON lines on standard output.
    """
    from batchrun.batch.display import watch_lines, watch_terminal
    from batchrun.batch.waves_ahead import waves_ahead
    from batchrun.prompts.combinations import combinations_notice

    stream = terminal()
    console = _drawing_console(stream)
    if not quiet:
        combinations = combinations_notice(plan.rows_to_ask // len(plan.combinations), plan.settings)
        about = (plan.destination.why_embedded, *waves_ahead(plan), *plan.about_input, *plan.notices)
        note(*filter(None, (combinations, *about)))
    watch: Watch | None
    if as_json:
        watch = partial(watch_lines, show_line=partial(progress_line, for_people=False), as_json=True)
    elif quiet:
        watch = None
    elif console is not None and not is_verbose():
        starting = ExitStack()
        starting.enter_context(waiting_line("starting …"))
        drawing = partial(watch_terminal, console=console, ready=stream.is_ready)
        watch = partial(_watch_instead, starting, drawing)
    else:
        watch = partial(watch_lines, show_line=_dated_line if console is None else progress_line, as_json=False)

    def leave(exit_code: int) -> NoReturn:
        # A terminal that accepts nothing must not delay the exit.
        stream.patience_s = 0.0
        if console is not None:
            console.show_cursor()
        before_exit(exit_code)
        os._exit(exit_code)

    return watch, leave


def _drawing_console(stream: SafeStream) -> Console | None:
    """Return the console that draws on a terminal; None if the stream is not a terminal.

    Rich decides, but it is not imported where its answer is known: it takes long.
    """
    if not stream.isatty() and os.environ.keys().isdisjoint(_TERMINAL_VARIABLES):
        return None
    from rich.console import Console

    console = Console(file=cast(TextIO, stream))
    return console if console.is_terminal else None


_TERMINAL_VARIABLES = ("TTY_COMPATIBLE", "FORCE_COLOR")
"""With them rich may draw on a stream that is not a terminal."""


def _dated_line(line: str) -> None:
    progress_line(f"{now_text()} · {line}")
