"""What a command shows while a batch runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TextIO, cast

from batchrun.cli.console import note, progress, terminal

if TYPE_CHECKING:
    from batchrun.batch.plan import Plan
    from batchrun.batch.progress import Watch

__all__ = ["seen"]


def seen(
    plan: Plan, leaving: Callable[[int], None], *, quiet: bool, as_json: bool
) -> tuple[Watch | None, Callable[[int], NoReturn]]:
    """What shows the progress of a batch, and what to do when it is to be left at once."""
    from rich.console import Console

    from batchrun.batch.display import watch_lines, watch_terminal

    stream = terminal()
    console = Console(file=cast(TextIO, stream))
    if not quiet:
        note(*filter(None, (plan.destination.why_embedded, *plan.notices)))
    watch: Watch | None
    if as_json:
        watch = partial(watch_lines, show_line=partial(progress, for_people=False), as_json=True)
    elif quiet:
        watch = None
    elif console.is_terminal:
        watch = partial(watch_terminal, console=console, ready=stream.ready)
    else:
        watch = partial(watch_lines, show_line=progress, as_json=False)

    def leave(exit_code: int) -> NoReturn:
        stream.patience_s = 0.0
        console.show_cursor()
        leaving(exit_code)
        os._exit(exit_code)

    return watch, leave
