"""The batches in a folder, as their journals know them. Looking at them writes nothing and takes no lock."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from batchrun.batch.lock import flocked_files, is_held_now
from batchrun.batch.paths import paths_for
from batchrun.batch.status import StatusFacts, status_facts
from batchrun.errors import OutputError
from batchrun.journal import Journal
from batchrun.journal.database import has_shards
from batchrun.shell_hint import command

__all__ = ["ListedBatch", "UnreadableJournal", "list_batches"]

_PATIENCE_S = 0.2
"""A journal that another program keeps locked for longer is reported instead of waited for."""


class ListedBatch(StatusFacts):
    """A batch, as `list --json` prints it: its status, and when it last ran.

    `last_at` is the UTC time of the last answer or attempt; that of the start if there is none.
    """

    last_at: str
    output_exists: bool


@dataclass(frozen=True, slots=True)
class UnreadableJournal:
    """A journal that cannot be read, and the reason in one line, which names it."""

    journal: Path
    problem: str


def list_batches(
    folders: Sequence[Path], *, recursive: bool = False
) -> tuple[list[ListedBatch], list[UnreadableJournal]]:
    """Return the batches whose journals are in these folders, those that ran last first, and the unreadable journals.

    Args:
        folders: a folder that does not exist has no batches.
        recursive: look in their subfolders too. Hidden folders are left out, and links to folders are not followed.

    Raises:
        OutputError: a folder cannot be read.
    """
    batches: list[ListedBatch] = []
    unreadable: list[UnreadableJournal] = []
    flocked = flocked_files()
    for journal in _journals(folders, recursive=recursive):
        try:
            batches.append(_listed(journal, flocked))
        except OutputError as exc:
            unreadable.append(UnreadableJournal(journal, str(exc)))
        except FileNotFoundError:
            pass  # renamed or deleted a moment ago
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            # SQLite can read the file, but somebody has changed its contents.
            unreadable.append(UnreadableJournal(journal, f"{journal}: its contents are not those of a journal"))
    batches.sort(key=lambda batch: (batch["running"], batch["last_at"]), reverse=True)
    return batches, unreadable


def _journals(folders: Sequence[Path], *, recursive: bool) -> Iterator[Path]:
    """Yield the journals, each once, in a stable order."""
    seen: set[str] = set()
    pending = list(folders)
    while pending:
        folder = pending.pop(0)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise OutputError(f"{folder}: cannot be read ({(exc.strerror or str(exc)).lower()})") from None
        for entry in entries:
            if entry.name.endswith(".journal") and entry.is_file():
                if (real := os.path.realpath(entry.path)) not in seen:
                    seen.add(real)
                    yield folder / entry.name
            elif (
                recursive
                and not entry.name.startswith(".")
                and not (".journal." in entry.name and entry.name.endswith(".d"))
                and entry.is_dir(follow_symlinks=False)
            ):
                pending.append(folder / entry.name)


def _listed(journal: Path, flocked: frozenset[tuple[int, int]]) -> ListedBatch:
    paths = paths_for(Path(str(journal).removesuffix(".journal")))
    if not journal.stat().st_size:
        raise OutputError(f"{journal}: is empty, so it holds no batch")
    running = is_held_now(paths.lock, flocked)
    if has_shards(journal) and not running:
        raise OutputError(
            f"{paths.shards}: workers have left answers here that are not counted yet; "
            f"{command('status', paths.output)} takes them in"
        )
    with Journal(journal, read_only=True, untouched=True, patience_s=_PATIENCE_S) as opened:
        facts = status_facts(paths.output, opened, running=running)
        # Answers from a cache may be older than the batch.
        last_at = max(opened.last_at() or "", facts["created_at"])
    if datetime.fromisoformat(last_at).tzinfo is None or not isinstance(facts["model"], str | None):
        raise ValueError("the manifest was changed")
    return {**facts, "last_at": last_at, "output_exists": paths.output.exists()}
