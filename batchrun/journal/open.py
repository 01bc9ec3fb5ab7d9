"""Opens the journal of a batch: new, resumed, started over, or refused because something changed."""

from __future__ import annotations

import glob
import logging
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from batchrun.clock import WallClock
from batchrun.errors import JournalMismatch, OutputError
from batchrun.journal.created_objects import place_of
from batchrun.journal.database import has_shards
from batchrun.journal.journal import Journal
from batchrun.prompts.rendering_version import FIRST_RENDERING
from batchrun.records import Manifest
from batchrun.tables import has_answers
from batchrun.wording import rows_text, visible_line

__all__ = ["check_not_lost", "create_file", "manifest_of", "objection", "open_journal", "read_earlier"]

T = TypeVar("T")

logger = logging.getLogger("batchrun.journal")

_PARTS = (".d", "-wal", "-shm", "")
"""Suffixes of the files of a journal; the first is the folder of shards that workers have left."""

CountStrange: TypeAlias = Callable[[Journal], int]


def open_journal(
    path: Path,
    manifest: Manifest,
    *,
    output: Path | None = None,
    fresh: bool = False,
    accept_changes: bool = False,
    count_strange: CountStrange,
    clock: WallClock,
) -> Journal:
    """Open the journal for a batch that `manifest` describes (as `Plan.manifest`).

    Args:
        output: the table that is made from the journal.
        fresh: rename an existing journal to a dated name and begin a new one.
        accept_changes: continue although `manifest` differs from the stored one.
        count_strange: see `objection`.

    Raises:
        JournalMismatch: the manifests differ, and neither `fresh` nor `accept_changes` is set; the message names the
            changes. Or the journal has answers of the embedded server and the batch asks a real service, or the
            other way round.
        OutputError: the file cannot be used, or its content is lost.
    """
    if fresh:
        _set_aside(path, clock)
    else:
        check_not_lost(path, output)
    create_file(path)
    journal = Journal(path)
    try:
        stored = journal.read_manifest()
        if not stored:
            if not fresh:
                _check_output_is_free(path, output, "holds no batch")
            journal.write_manifest(
                {**manifest, "batch_id": f"batch_{secrets.token_hex(8)}", "created_at": clock().isoformat()}
            )
            logger.info("%s: new", visible_line(str(path)))
            return journal
        refusal = objection(journal, stored, manifest, count_strange, accept_changes=accept_changes)
        if refusal is not None:
            raise JournalMismatch(f"{path} {refusal}")
        _log_resumed(path, journal, changes(stored, manifest))
        moved = _service_of(stored) != _service_of(manifest)
        if moved:
            journal.created.gather(stored)  # while their place is known
        if not journal.may_have_cost() and (moved or changes(stored, manifest)):
            journal.forget_failures()  # of a first attempt at the batch, which answered nothing
        journal.write_manifest(manifest)
    except BaseException:
        journal.close()
        raise
    return journal


def manifest_of(journal: Journal) -> Manifest:
    """Return the manifest of the batch that the journal holds.

    Raises:
        OutputError: the journal holds no batch: it was created, and the process ended before it had written anything.
    """
    manifest = journal.read_manifest()
    if "batch_id" not in manifest:
        raise OutputError(f"{journal.path}: holds no batch: the process ended before its first row; run it again")
    return manifest


def read_earlier(path: Path, read: Callable[[Journal], T]) -> T | None:
    """Return what `read` finds in the journal of an earlier run; None without one.

    None also if it cannot be read: to open it for writing reports the problem, or --fresh replaces it.
    """
    if not path.is_file() or not path.stat().st_size:
        return None
    try:
        with Journal(path, read_only=True) as journal:
            return read(journal)
    except OutputError:
        return None


def _log_resumed(path: Path, journal: Journal, changed: Sequence[str]) -> None:
    if logger.isEnabledFor(logging.INFO):
        counts = journal.counts()
        logger.info(
            "%s: resumed, %d completed, %d incomplete, %d failed, %d in flight%s",
            visible_line(str(path)), counts.completed, counts.incomplete, counts.failed, counts.in_flight,
            "".join(f"; changed: {visible_line(each)}" for each in changed),
        )  # fmt: skip


def create_file(path: Path) -> None:
    """Create the file of a journal, and its folder, unless they exist.

    Raises:
        OutputError: they cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The journal holds answers and thread ids: only its owner may read it.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as exc:
        raise OutputError(f"{path}: cannot create the journal ({exc.strerror or exc})") from None


def _service_of(manifest: Manifest) -> tuple[str, str | None]:
    return place_of(manifest), manifest["settings"].get("api")


def objection(
    journal: Journal,
    stored: Manifest,
    wanted: Manifest,
    count_strange: CountStrange,
    *,
    accept_changes: bool,
) -> str | None:
    """Return why a journal cannot be continued, in words that follow its path; None if it can.

    If nothing was answered or charged, nothing can be lost or paid for twice: any change is accepted.

    Args:
        stored: the journal's manifest.
        wanted: the manifest of the batch that wants to continue it.
        count_strange: counts the answered rows of the input whose prompt has another fingerprint now.
    """
    if not journal.may_have_cost():
        return None
    before, now = stored.get("settings", {}).get("embedded"), wanted["settings"].get("embedded")
    if before is not None and now is not None and before != now:
        embedded, real = "the embedded server (offline)", "a real service"
        return (
            f"holds rows that were answered by {embedded if before else real}, and the batch would now ask "
            f"{embedded if now else real}; the two are never mixed in one output, even with --accept-changes. "
            "Choose another output (--output), or start over with --fresh (the old journal is kept)"
        )
    if accept_changes:
        return None
    found = changes(stored, wanted)
    if found:
        return (
            f"belongs to a batch that differs: {'; '.join(found)}. --accept-changes continues and asks again "
            "(and pays for) the rows whose prompt changed, or all rows if a model or a setting changed; "
            f"--fresh starts over (the old journal is kept){_at_service_text(journal, stored)}"
        )
    if stored.get("rendering", FIRST_RENDERING) == wanted.get("rendering", FIRST_RENDERING):
        return None
    strange = count_strange(journal)
    if not strange:
        return None
    return (
        "was written by another version of batchrun or of its template engine, which renders some prompts "
        f"differently: {rows_text(strange)} with an answer would be asked and paid for again. --accept-changes "
        "continues and does that; --fresh starts over (the old journal is kept); or use the earlier version"
    )


def _at_service_text(journal: Journal, stored: Manifest) -> str:
    """Return how many requests are at the service's Batch API, which would be paid for and not used."""
    requests = sum(batch.lines for batch in journal.service_batches.open(place_of(stored)))
    if not requests:
        return ""
    are = "1 request is" if requests == 1 else f"{requests:,} requests are"
    return (
        f". {are} at the service's Batch API: rows that are asked again would be paid for twice; cancel them first, or "
        "collect the answers with the earlier command"
    )


def changes(stored: Manifest, wanted: Manifest) -> list[str]:
    """Return the differences between two manifests that may change answers, in words."""
    found = []
    old_settings, new_settings = stored.get("settings", {}), wanted["settings"]
    for name in sorted({*old_settings, *new_settings}):
        old, new = old_settings.get(name), new_settings.get(name)
        if old != new and not _only_adds(name, old, new):
            found.append(f"{name.replace('_', '-')} was {_short(old)} and is {_short(new)}")
    if stored.get("key") != wanted.get("key"):
        found.append(f"the key column was {stored.get('key')} and is {wanted.get('key')}")
    # With a key, rows are found again at any position: a key is meant for inputs that are edited.
    if wanted.get("key") is None and stored.get("input_fingerprint") != wanted["input_fingerprint"]:
        rows = "" if stored.get("rows") == wanted["rows"] else f" ({stored.get('rows')} rows, now {wanted['rows']})"
        found.append(f"the input changed{rows}")
    return found


def _only_adds(name: str, old: Any, new: Any) -> bool:
    """Return whether answered rows stay valid: their keys contain the values that they were sent with."""
    if name == "matrix":
        return isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys()
    return name == "epochs"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}…{text[-15:]}"


def check_not_lost(path: Path, output: Path | None) -> None:
    """Refuse a journal that is gone or empty although a batch had begun, and an output that no batch has written.

    A new journal in its place would have every answered row sent and paid for again, and SQLite would even remove the
    write-ahead log next to it. A file of the user's own would be replaced by the output.

    Raises:
        OutputError: the journal or the file would be lost; the message gives the evidence, and what to do.
    """
    log = path.with_name(path.name + "-wal")
    try:
        state = "is gone" if not path.exists() else "is empty" if path.is_file() and not path.stat().st_size else None
        logged = log.exists() and log.stat().st_size > 0
        is_in_shards = has_shards(path)
    except OSError:
        return  # opening the journal reports the problem
    if state is None:
        return
    if logged:
        raise _lost(path, state, "the log next to it shows that the batch had begun")
    if is_in_shards:
        raise _lost(path, state, f"the answers in {path.name}.d show that the batch had begun")
    _check_output_is_free(path, output, state)


def _check_output_is_free(path: Path, output: Path | None, state: str) -> None:
    """Refuse if there is an output: its journal is lost, or it is a file of the user's own. An empty file is free."""
    if output is None or not output.exists() or not output.stat().st_size:
        return
    if output.is_dir() and not any(output.iterdir()):
        return
    if has_answers(output):
        raise _lost(path, state, f"{output.name} next to it holds answers of a batch")
    raise OutputError(
        f"{output}: this file exists, and batchrun has not written it; a batch would replace it. Name another output "
        "(--output), move the file away, or give --fresh to replace it"
    )


def _lost(path: Path, state: str, evidence: str) -> OutputError:
    kept = sorted(path.parent.glob(f"{glob.escape(path.name)}.[0-9]*[0-9Z]"))
    such_as = f" (--fresh set {kept[-1].name} aside)" if kept else ""
    return OutputError(
        f"{path}: {state}, although {evidence}: everything would be asked and paid for again; put a copy of the "
        f"journal back{such_as}, name another output, or start over with --fresh"
    )


def _set_aside(path: Path, clock: WallClock) -> None:
    """Rename the journal and SQLite's files next to it to a dated name that is not taken."""
    _finish_log(path)
    parts = [ending for ending in _PARTS if path.with_name(path.name + ending).exists()]
    stamp = clock().strftime("%Y%m%dT%H%M%SZ")
    for number in range(1, 1_000):
        target = path.with_name(f"{path.name}.{stamp}" + (f"-{number}" if number > 1 else ""))
        if not any(target.with_name(target.name + ending).exists() for ending in _PARTS):
            break
    try:
        # One rename moves a whole journal; the others are for the parts of one that cannot be opened. In this order, no
        # log is ever left next to a journal that it does not belong to, even if the process dies in between.
        for ending in parts:
            path.with_name(path.name + ending).rename(target.with_name(target.name + ending))
    except OSError as exc:
        raise OutputError(f"{path}: cannot rename the old journal ({exc.strerror or exc})") from None
    if parts:
        logger.info("%s: the old journal is now %s", visible_line(str(path)), visible_line(target.name))


def _finish_log(path: Path) -> None:
    """Move the write-ahead log into the journal, which is then complete without it. Skip one that cannot be opened."""
    if not path.is_file() or not path.stat().st_size:
        return  # SQLite would remove the log beside an empty journal
    whole = True
    with suppress(OutputError), Journal(path) as journal:
        whole = journal.settle()
    if not whole:
        raise OutputError(f"{path}: another process reads this journal; end it, and start over again")
