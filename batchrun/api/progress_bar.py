"""The progress of a batch that Python code runs: an output of a notebook's cell, a terminal's bar, or lines.

A notebook shows what rich renders, through IPython's own display. Rich's live display in a notebook and `tqdm.auto`
need ipywidgets, which few installations have, and whose bars a saved notebook does not show. A display of IPython
can be replaced by its id, also from another thread.
"""

from __future__ import annotations

import io
import select
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from batchrun.batch.display import watch_lines, watch_renderable, watch_terminal
from batchrun.errors import InputError
from batchrun.wording import shortened, visible_line

if TYPE_CHECKING:
    from rich.console import RenderableType

    from batchrun.batch.progress import BatchView, Watch

__all__ = ["watch_of"]

Show: TypeAlias = Callable[["RenderableType"], None]

_terminal_in_use = threading.Lock()
"""Held by the batch that draws on the terminal: two bars would overwrite each other."""


def watch_of(progress: bool | None) -> Watch | None:
    """Return the display of a batch's progress; None if there is none.

    Args:
        progress: False shows nothing. None shows a bar in a notebook and on a terminal. True also shows progress
            elsewhere: a line on standard error every 30 seconds.

    Raises:
        InputError: it is something else.
    """
    if progress is not None and not isinstance(progress, bool):
        raise InputError(f"progress: expected True, False or None, got {shortened(progress)}")
    if progress is False:
        return None
    if _is_notebook():
        return _watch_notebook
    if sys.stderr is not None and sys.stderr.isatty():
        return _watch_terminal
    return partial(watch_lines, show_line=_show_line, as_json=False) if progress else None


def _is_notebook() -> bool:
    """Return whether this process is the kernel of a notebook. A program that has no IPython need not import it."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


async def _watch_notebook(view: BatchView) -> None:
    await watch_renderable(view, _notebook_output())


def _notebook_output() -> Show:
    """Return a function that shows a renderable in one output of the cell, in place of the one before."""
    from IPython.display import DisplayHandle

    handle: Any = DisplayHandle()
    show = handle.display

    def replace(renderable: RenderableType) -> None:
        nonlocal show
        show(_mime_bundle(renderable), raw=True)
        show = handle.update

    return replace


def _mime_bundle(renderable: RenderableType) -> dict[str, str]:
    """Return a renderable as HTML, and as text for what shows no HTML."""
    from rich.console import Console

    console = Console(file=io.StringIO(), record=True, force_jupyter=False, width=110)
    console.print(renderable)
    html = console.export_html(inline_styles=True, code_format=_HTML, clear=False)
    return {"text/html": html, "text/plain": console.export_text().rstrip("\n")}


_HTML = '<pre style="white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace">{code}</pre>'


async def _watch_terminal(view: BatchView) -> None:
    from rich.console import Console

    if not _terminal_in_use.acquire(blocking=False):
        return
    try:
        await watch_terminal(view, Console(stderr=True), _terminal_is_ready, keeps_last=True)
    finally:
        _terminal_in_use.release()


def _terminal_is_ready() -> bool:
    """Return whether the terminal accepts output: one that is suspended must not block the batch."""
    if sys.platform == "win32":
        return True
    return bool(select.select([], [sys.stderr], [], 0)[1])


def _show_line(line: str) -> None:
    sys.stderr.write(f"{visible_line(line)}\n")
    sys.stderr.flush()
