"""The root command, and the event loop of its commands."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from batchrun.interrupts import Interrupts
from batchrun.version import __version__

__all__ = ["cli", "interrupts", "run_loop"]

T = TypeVar("T")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="batchrun %(version)s")
def cli() -> None:
    """Turn a table of prompts into a table of answers: one thread and one run per row."""


def interrupts() -> Interrupts:
    """Return the signal handling that `main` installed."""
    installed = click.get_current_context().find_object(Interrupts)
    assert installed is not None
    return installed


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of a command. A signal cancels it, unless the coroutine handles signals itself."""
    from batchrun.api import event_loop

    return event_loop.run_loop(main, interrupts())
