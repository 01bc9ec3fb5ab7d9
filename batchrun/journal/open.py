"""Opening the journal of a batch: new, resumed, started over, or refused since something changed."""

from __future__ import annotations

import glob
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from batchrun.clock import WallClock
from batchrun.errors import JournalMismatch, OutputError
from batchrun.journal.created_objects import place_of
from batchrun.journal.journal import Journal
from batchrun.prompts.templates import FIRST_RENDERING
from batchrun.tables import holds_answers
from batchrun.wording import rows_text

__all__ = ["check_not_lost", "objection", "open_journal"]

_PARTS = ("-wal", "-shm", "")
"""Endings of the files of a journal."""

CountStrange: TypeAlias = Callable[[Journal], int]


def open_journal(
    path: Path,
    manifest: Mapping[str, Any],
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
        fresh: keep an existing journal under a dated name and begin a new one.
        accept_changes: go on although `manifest` differs from the stored one.
        count_strange: see `objection`.

    Raises:
        JournalMismatch: it differs, and neither was given; names what changed. Or the embedded server answered what
            a real service is to continue, or the other way round.
        OutputError: the file cannot be used, or what it knew is lost.
    """
    if fresh:
        _set_aside(path, clock)
    else:
        check_not_lost(path, output)
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
            if not fresh:
                _check_no_answers(path, output, "holds no batch")
            journal.write_manifest(
                {**manifest, "batch_id": f"batch_{secrets.token_hex(8)}", "created_at": clock().isoformat()}
            )
            return journal
        refusal = objection(journal, stored, manifest, count_strange, accept_changes=accept_changes)
        if refusal is not None:
            raise JournalMismatch(f"{path} {refusal}")
        moved = _service_of(stored) != _service_of(manifest)
        if moved:
            journal.created.gather(stored)  # while it is known where they are
        if not journal.may_have_cost() and (moved or changes(stored, manifest)):
            journal.forget_failures()  # of a first try that went wrong
        journal.write_manifest(manifest)
    except BaseException:
        journal.close()
        raise
    return journal


def _service_of(manifest: Mapping[str, Any]) -> tuple[str, str | None]:
    return place_of(manifest), manifest["settings"].get("api")


def objection(
    journal: Journal,
    stored: Mapping[str, Any],
    wanted: Mapping[str, Any],
    count_strange: CountStrange,
    *,
    accept_changes: bool,
) -> str | None:
    """Why a journal is not simply continued, in words that follow its path; None if it is.

    Where nothing was answered or paid for, nothing can be lost or paid twice: any correction is welcome.

    Args:
        stored: the journal's manifest.
        wanted: that of the batch which wants to continue it.
        count_strange: counts the answered rows of the input whose prompt has another fingerprint now.
    """
    if not journal.may_have_cost():
        return None
    before, now = stored.get("settings", {}).get("embedded"), wanted["settings"].get("embedded")
    if before is not None and now is not None and before != now:
        embedded, real = "the embedded server (offline)", "a real service"
        return (
            f"holds rows that were answered by {embedded if before else real}, and would now be asked of "
            f"{embedded if now else real}; the two are never mixed in one output, also not with --accept-changes. "
            "Choose another output (--output), or start over with --fresh (the old journal is kept)"
        )
    if accept_changes:
        return None
    found = changes(stored, wanted)
    if found:
        return (
            f"belongs to a batch that differs: {'; '.join(found)}. --accept-changes goes on and asks again "
            "(and pays for) the rows whose prompt changed, or all where it is a model or a setting; "
            "--fresh starts over (the old journal is kept)"
        )
    if stored.get("rendering", FIRST_RENDERING) == wanted.get("rendering", FIRST_RENDERING):
        return None
    strange = count_strange(journal)
    if not strange:
        return None
    return (
        "was written by another version of batchrun or of its template engine, which makes some prompts "
        f"differently: {rows_text(strange)} with an answer would be asked and paid for again. --accept-changes goes "
        "on and does that; --fresh starts over (the old journal is kept); or use the earlier version"
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


def check_not_lost(path: Path, output: Path | None) -> None:
    """Refuse a journal that is gone or empty although a batch had begun: as a new one it would have everything that
    is answered asked and paid for again. SQLite would even remove the write-ahead log beside it.

    Raises:
        OutputError: says what shows it, and what to do.
    """
    log = path.with_name(path.name + "-wal")
    try:
        state = "is gone" if not path.exists() else "is empty" if path.is_file() and not path.stat().st_size else None
        logged = log.exists() and log.stat().st_size > 0
    except OSError:
        return  # what is the matter shows when it is opened
    if state is None:
        return
    if logged:
        raise _lost(path, state, "its log beside it shows that the batch had begun")
    _check_no_answers(path, output, state)


def _check_no_answers(path: Path, output: Path | None, state: str) -> None:
    """A table that batchrun has written belongs to a journal. A file of somebody else's is replaced, as was asked."""
    if output is not None and output.exists() and holds_answers(output):
        raise _lost(path, state, f"{output.name} beside it holds answers of a batch")


def _lost(path: Path, state: str, evidence: str) -> OutputError:
    kept = sorted(path.parent.glob(f"{glob.escape(path.name)}.[0-9]*[0-9Z]"))
    such_as = f" (--fresh set {kept[-1].name} aside)" if kept else ""
    return OutputError(
        f"{path}: {state}, although {evidence}: everything would be asked and paid for again; put a copy of the "
        f"journal back{such_as}, name another output, or start over with --fresh"
    )


def _set_aside(path: Path, clock: WallClock) -> None:
    """Rename the journal, with what SQLite keeps beside it, to a dated name that is not taken."""
    _finish_log(path)
    parts = [ending for ending in _PARTS if path.with_name(path.name + ending).exists()]
    stamp = clock().strftime("%Y%m%dT%H%M%SZ")
    for number in range(1, 1_000):
        target = path.with_name(f"{path.name}.{stamp}" + (f"-{number}" if number > 1 else ""))
        if not any(target.with_name(target.name + ending).exists() for ending in _PARTS):
            break
    try:
        # One rename moves a whole journal; the others are for the parts of one that cannot be opened. In this order,
        # wherever it is cut short, no log is left beside a journal that it does not belong to.
        for ending in parts:
            path.with_name(path.name + ending).rename(target.with_name(target.name + ending))
    except OSError as exc:
        raise OutputError(f"{path}: the old journal cannot be renamed ({exc.strerror or exc})") from None


def _finish_log(path: Path) -> None:
    """Move the write-ahead log into the journal, which is whole without it then. One that cannot be opened is left."""
    if not path.is_file() or not path.stat().st_size:
        return  # SQLite would remove the log beside an empty journal
    whole = True
    with suppress(OutputError), Journal(path) as journal:
        whole = journal.settle()
    if not whole:
        raise OutputError(f"{path}: another process reads this journal; end it, and start over again")
