"""The copy of an input that came through standard input: a batch resumes from it."""

from __future__ import annotations

import os

from batchrun.batch.lock import is_held
from batchrun.batch.paths import Paths
from batchrun.errors import OutputError, OutputHeld

__all__ = ["check_standard_input", "keep_standard_input"]


def check_standard_input(paths: Paths) -> None:
    """Check that standard input can be copied to `paths.incoming`.

    The copy is made before the lock is taken, so it must not replace the one that a running batch reads.

    Raises:
        OutputHeld: another process is writing the output.
        OutputError: the output's folder cannot be created.
    """
    if is_held(paths.lock):
        raise OutputHeld(f"another batch is writing this output (lock: {paths.lock}); standard input cannot wait")
    try:
        paths.output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{paths.output.parent}: cannot be created ({exc.strerror or exc})") from None


def keep_standard_input(paths: Paths) -> None:
    """Replace the copy of an earlier run by the new one, now that the batch has been accepted.

    The new copy keeps its first name too, since the source reads it under that name until the batch ends: the second
    name is a hard link, made beside the old copy and renamed over it in one step.

    Raises:
        OutputError: the copy cannot be written.
    """
    link = paths.incoming.with_name(paths.incoming.name + ".link")
    try:
        link.unlink(missing_ok=True)
        os.link(paths.incoming, link)
        link.replace(paths.spool)
    except OSError as exc:
        raise OutputError(f"{paths.spool}: cannot be written ({(exc.strerror or str(exc)).lower()})") from None
