"""The place to which the output of a batch is put, checked before a row is paid for."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Final

import anyio.to_thread

from batchrun.batch.paths import Paths
from batchrun.clock import WallClock
from batchrun.errors import InputError, JournalMismatch, OutputError
from batchrun.journal import Journal
from batchrun.journal.open import read_earlier
from batchrun.local_paths import is_url
from batchrun.scale.stored_journal import StoredJournal, refuse_without_ray
from batchrun.tables.place import has_wildcard
from batchrun.tables.target import OutputPlace
from batchrun.wording import local_time

__all__ = ["IS_INPUT", "await_put", "check_journal_of", "check_target", "put_output", "put_text", "record_target"]

_ENTRY: Final = "put_to"
IS_INPUT: Final = "the output is the input; choose another name"


def check_target(target: OutputPlace, paths: Paths, table: str | None, *, fresh: bool, on_ray: bool) -> None:
    """Check that the output can be put to its place, and that nothing of others is replaced; nothing is left on this
    machine if not.

    Args:
        paths: the files of the batch.
        table: the path or the URL of the input; None for a table in memory.
        fresh: the batch starts over.
        on_ray: the batch keeps a journal in the store of the output too.

    Raises:
        InputError: the output would replace a remote input, or become a part of it; or its URL is a pattern.
        JournalMismatch, OutputError: as `refuse_without_ray` and `check_journal_of`; or the place cannot be written.
    """
    if is_url(target.address):
        if has_wildcard(target.address.rstrip("/").rpartition("/")[2]):
            raise InputError(f"{target.shown}: an output is one file or folder; leave out * and [")
        _check_not_remote_input(target, table)
        if not on_ray:
            refuse_without_ray(target)  # also if it starts over: the journal there would be taken for its own
    target.check(is_own=not fresh and check_journal_of(target, paths, on_ray=on_ray))


def check_journal_of(target: OutputPlace, paths: Paths, *, on_ray: bool) -> bool:
    """Return whether the batch has put its output there before, or has begun to.

    Args:
        on_ray: the batch continues with the journal in the store of the output, if this machine has none.

    Raises:
        JournalMismatch: the journal belongs to an output at another place.
        OutputError: something is there that this batch has not put, or the place cannot be asked.
    """
    before = read_earlier(paths.journal, lambda journal: journal.read_manifest().get(_ENTRY))
    if before is not None and before["place"] != target.shown:
        raise JournalMismatch(
            f"{paths.journal} belongs to the output {before['place']}, not to {target.shown}; give another "
            "--journal, or start over with --fresh (the old journal is kept)"
        )
    own = Path(f"{Path(target.address)}.journal")
    if not is_url(target.address) and own.exists():
        raise JournalMismatch(
            f"{own}: is the journal of this output, and --journal names another one; leave --journal out, or name "
            "another output"
        )
    if before is None and on_ray and is_url(target.address) and StoredJournal.of(target).newest() is not None:
        return True
    if before is None and target.exists():
        raise OutputError(
            f"{target.shown}: exists, and {paths.journal} is not the journal of it; give its journal "
            "(--journal), name another output (--output), or give --fresh to replace it"
        )
    return before is not None


def _check_not_remote_input(target: OutputPlace, table: str | None) -> None:
    if table is None or not is_url(table):
        return
    output, given = target.shown.rstrip("/"), table.rstrip("/")
    folder, _, name = output.rpartition("/")
    inputs, _, pattern = given.rpartition("/")
    if output == given or (target.is_folder and output == inputs):
        raise InputError(f"{target.shown}: {IS_INPUT}")
    is_part = folder == inputs and has_wildcard(pattern) and fnmatch.fnmatchcase(name, pattern)
    if is_part or folder == given:
        raise InputError(f"{target.shown}: the output would be a part of the input {table}; choose another folder")


def record_target(target: OutputPlace, journal: Journal) -> None:
    """Record in the journal where its output belongs."""
    if (journal.read_manifest().get(_ENTRY) or {}).get("place") != target.shown:
        journal.write_manifest({_ENTRY: {"place": target.shown, "at": None}})


def await_put(journal: Journal) -> str | None:
    """Record that the output was written and not put, and return where the next run puts it; None if it stays there."""
    put = journal.read_manifest().get(_ENTRY)
    if put is None:
        return None
    journal.write_manifest({_ENTRY: {**put, "at": None}})
    return str(put["place"])


async def put_output(target: OutputPlace, output: Path, journal: Journal, clock: WallClock) -> None:
    """Put an output that has been written, beside the event loop, and record when.

    Raises:
        OutputError: it cannot be put.
    """
    await anyio.to_thread.run_sync(target.put, output)
    journal.write_manifest({_ENTRY: {"place": target.shown, "at": clock().isoformat()}})


def put_text(place: str, at: str | None) -> str:
    """Return where the output of a batch was put, and when, for people; `at` is None if it was not put yet."""
    if at is None:
        return f"not put to {place} yet: `run` with the same options puts it"
    return f"put to {place} at {local_time(at)}"
