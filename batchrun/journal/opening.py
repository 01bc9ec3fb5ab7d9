"""Opening the journal of a batch: new, resumed, started over, or refused since something changed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchrun.clock import WallClock
from batchrun.errors import JournalMismatch, OutputError
from batchrun.journal.created import place_of
from batchrun.journal.store import Journal

__all__ = ["changes", "check_not_mixed", "open_journal"]


def open_journal(
    path: Path,
    manifest: Mapping[str, Any],
    *,
    output: Path | None = None,
    fresh: bool = False,
    accept_changes: bool = False,
    clock: WallClock,
) -> Journal:
    """Open the journal for a batch that `manifest` describes (as `Plan.manifest`).

    Args:
        output: the table that is made from the journal.
        fresh: keep an existing journal under a dated name and begin a new one.
        accept_changes: go on although `manifest` differs from the stored one.

    Raises:
        JournalMismatch: it differs, and neither was given; names what changed. Or the embedded server answered what
            a real service is to continue, or the other way round.
        OutputError: the file cannot be used.
    """
    if fresh:
        _set_aside(path, clock)
    else:
        _check_not_emptied(path, output)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The journal holds prompts' answers and thread ids: its owner's business only.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as exc:
        raise OutputError(f"{path}: the journal cannot be created ({exc.strerror or exc})") from None
    journal = Journal(path)
    try:
        stored = journal.read_manifest()
        if not stored:
            journal.write_manifest(
                {**manifest, "batch_id": f"batch_{secrets.token_hex(8)}", "created_at": clock().isoformat()}
            )
            return journal
        check_not_mixed(journal, stored, manifest)
        found = changes(stored, manifest)
        if found and not accept_changes:
            raise JournalMismatch(
                f"{path} belongs to a batch that differs: {'; '.join(found)}. --accept-changes goes on and asks again "
                "(and pays for) the rows whose prompt changed, or all where it is a model or a setting; "
                "--fresh starts over (the old journal is kept)"
            )
        if _service_of(stored) != _service_of(manifest):
            journal.created.gather(stored)  # while it is known where they are
        journal.write_manifest(manifest)
    except BaseException:
        journal.close()
        raise
    return journal


def _service_of(manifest: Mapping[str, Any]) -> tuple[str, str | None]:
    return place_of(manifest), manifest["settings"].get("api")


def check_not_mixed(journal: Journal, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Answers of a rehearsal and of a real service never stand in one output, whatever changes are accepted.

    Raises:
        JournalMismatch: they would.
    """
    before, now = stored.get("settings", {}).get("embedded"), wanted["settings"].get("embedded")
    if before is None or now is None or before == now or not journal.was_acted_on():
        return
    embedded, real = "the embedded server (offline)", "a real service"
    raise JournalMismatch(
        f"{journal.path}: its rows were answered by {embedded if before else real}, and would now be asked of "
        f"{embedded if now else real}; the two are never mixed in one output, also not with --accept-changes. Choose "
        "another output (--output), or start over with --fresh (the old journal is kept)"
    )


def changes(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What differs between two manifests in a way that may change answers, in words; empty if nothing does."""
    found = []
    old_settings, new_settings = stored.get("settings", {}), wanted["settings"]
    for name in sorted({*old_settings, *new_settings}):
        old, new = old_settings.get(name), new_settings.get(name)
        if old != new and not _only_adds(name, old, new):
            found.append(f"{name.replace('_', '-')} was {_short(old)} and is {_short(new)}")
    if stored.get("key") != wanted.get("key"):
        found.append(f"the key column was {stored.get('key')} and is {wanted.get('key')}")
    # With a key, rows are found again wherever they stand: an edited input is what it is for.
    if wanted.get("key") is None and stored.get("input_fingerprint") != wanted["input_fingerprint"]:
        rows = "" if stored.get("rows") == wanted["rows"] else f" ({stored.get('rows')} rows, now {wanted['rows']})"
        found.append(f"the input changed{rows}")
    return found


def _only_adds(name: str, old: Any, new: Any) -> bool:
    """Whether the rows that were answered stay what they are: their keys tell the values that they were asked with."""
    if name == "matrix":
        return isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys()
    return name == "epochs"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}…{text[-15:]}"


def _check_not_emptied(path: Path, output: Path | None) -> None:
    """An empty file would pass for a new journal, and everything that is answered would be asked and paid for again.

    SQLite would even remove the write-ahead log beside it.
    """
    log = path.with_name(path.name + "-wal")
    try:
        emptied = path.is_file() and path.stat().st_size == 0
        logged = log.exists() and log.stat().st_size > 0
    except OSError:
        return  # what is the matter shows when it is opened
    if emptied and (logged or (output is not None and output.exists())):
        raise OutputError(
            f"{path}: is empty, although {output.name if output is not None else 'its log'} beside it shows that the "
            "batch had begun; put a copy of the journal back, or start over with --fresh"
        )


def _set_aside(path: Path, clock: WallClock) -> None:
    """Rename the journal, with what SQLite keeps beside it, to a dated name that is not taken."""
    if not path.exists():
        return
    stamp = clock().strftime("%Y%m%dT%H%M%SZ")
    for number in range(1, 1_000):
        target = path.with_name(f"{path.name}.{stamp}" + (f"-{number}" if number > 1 else ""))
        if not target.exists():
            break
    try:
        for ending in ("-wal", "-shm", ""):
            part = path.with_name(path.name + ending)
            if part.exists():
                part.rename(target.with_name(target.name + ending))
    except OSError as exc:
        raise OutputError(f"{path}: the old journal cannot be renamed ({exc.strerror or exc})") from None
