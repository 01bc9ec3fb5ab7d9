"""Takes in what workers have recorded if their leader died before it could gather it."""

from __future__ import annotations

import logging
import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from batchrun.batch.lock import flocked_files, held, is_held, is_held_now
from batchrun.batch.paths import Paths, shards_of
from batchrun.errors import OutputError, OutputHeld
from batchrun.journal import Journal
from batchrun.journal.shard_rows import drop, gather, ungathered
from batchrun.shell_hint import command
from batchrun.wording import rows_text, visible_line

__all__ = ["gather_left", "take_in", "wait_for_workers"]

logger = logging.getLogger("batchrun.journal")

_OWN: Final = re.compile(
    r"[0-9]{5}\.(journal(\.new)?(-wal|-shm)?|rows|lock)|worker-[0-9]+\.log|whole(\.gz)?(-wal|-shm)?|copies"
)
"""Names of files in the folder of a batch's shards."""

ENDING_TIMEOUT_S: Final = 10.0
"""Workers stop when their leader has ended; a process takes a moment to end."""


def take_in(paths: Paths) -> None:
    """Do `gather_left` for a command that reads the journal, unless the batch runs: its leader gathers every second.

    Raises:
        OutputHeld: a worker still writes its shard.
        OutputError: a journal cannot be used, or there are answers and the disk cannot be written.
    """
    if not paths.shards.is_dir() or is_held_now(paths.lock, flocked_files()):
        return
    if not all(os.access(path, os.W_OK) for path in (paths.journal, paths.journal.parent, paths.shards)):
        _refuse_to_leave_out(paths)
        return
    with ExitStack() as stack:
        try:
            stack.enter_context(held(paths.lock))
        except OutputHeld:
            return  # it has just begun to run
        gather_left(paths.journal)


def gather_left(journal: Path) -> None:
    """Copy the rows of all shards that were left into the journal of their batch, and delete the shards. The caller has
    the lock of the batch.

    Without a journal nothing is done: whoever opens it says that it is missing.

    Raises:
        OutputHeld: a worker still writes its shard.
        OutputError: a journal cannot be used.
    """
    folder = shards_of(journal)
    if not folder.is_dir() or not journal.is_file() or not journal.stat().st_size:
        return
    wait_for_workers(folder)
    ended = 0
    with Journal(journal) as main:
        shards = _journals(folder)
        for path in shards:
            Journal(path).close()  # an earlier version of batchrun may have left it
            ended += gather(main, path, whole=True)
        # Until now a power failure would have left the rows in the shards.
        if not main.settle():
            raise OutputError(f"{journal}: another process reads this journal; end it, and run the same command again")
        for path in shards:
            drop(main, path)
    _delete(folder)
    logger.info("%s: took in %s that workers had left", visible_line(str(journal)), rows_text(ended))


def _delete(folder: Path) -> None:
    """Delete what a leader and its workers have left in the folder, and the folder, unless it has something else."""
    try:
        for path in [path for path in folder.iterdir() if _OWN.fullmatch(path.name)]:
            path.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
    except OSError as exc:
        raise OutputError(f"{folder}: cannot be deleted ({exc.strerror or exc})") from None


def wait_for_workers(folder: Path) -> None:
    """Wait until no worker writes a shard any more.

    Raises:
        OutputHeld: one does not end.
    """
    for lock in sorted(folder.glob("*.lock")):
        if is_held(lock, ENDING_TIMEOUT_S):
            raise OutputHeld(
                f"{folder}: a worker of this batch still writes there (lock: {lock.name}), although the process that "
                f"started it has ended; end it, and run the same command again"
            )


def _refuse_to_leave_out(paths: Paths) -> None:
    """Refuse to show a batch without the rows in its shards.

    Raises:
        OutputError: rows have ended there.
    """
    with Journal(paths.journal, read_only=True) as main:
        ended = sum(ungathered(main, path) for path in _journals(paths.shards))
    if ended:
        raise OutputError(
            f"{paths.shards}: the answers of {rows_text(ended)} are still here, and this place cannot be written; "
            f"{command('status', paths.output)}, or the command of the batch, takes them in where it can"
        )


def _journals(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.journal"))
