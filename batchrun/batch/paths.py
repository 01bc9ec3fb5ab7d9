"""The files of a batch: output, journal, lock, and what else is kept next to the output."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from batchrun.errors import InputError

__all__ = ["Paths", "paths_for", "paths_of_output", "shards_of"]


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of a batch.

    Attributes:
        output: the table of answers.
        journal: the record of each row, from which a batch resumes.
        shards: folder with the rows and the journals of workers, while they run.
        lock: held while a process is writing the output.
        store: the threads of the embedded server.
        spool: a copy of the input, if it came through standard input.
        incoming: the same copy until the batch is accepted. A batch that is refused must not replace the copy from
            which an earlier one resumes.
        copy: folder with a copy of the input, if it is in object storage.
        files: folder of the files that runs produced.
        notes: ratings and comments of people (`batchrun.batch.row_notes`). Nothing but `batchrun view` writes them.
    """

    output: Path
    journal: Path
    shards: Path
    lock: Path
    store: Path
    spool: Path
    incoming: Path
    copy: Path
    files: Path
    notes: Path

    def beside(self) -> str:
        """Return a line for people about the files that are next to the output now."""
        kept = (self.lock, self.store, self.spool, self.copy, self.files, self.notes)
        others = [path for path in kept if path.exists()]
        endings = "".join(f", {path.name.removeprefix(self.journal.stem)}" for path in others)
        return f"next to it: {self.journal.name} (keep it: the same command resumes from it){endings}"

    def with_store(self, store: str | Path | None) -> Paths:
        """Return the same paths with the embedded server's threads in a file that the user named (--store)."""
        return self if store is None else replace(self, store=Path(store))


def paths_for(output: Path) -> Paths:
    """Return the files of the batch that writes `output`: next to it, with its name as their prefix.

    If the output is a symbolic link, they are next to the link's target: an output has one journal and one lock,
    whichever name is used for it.

    Raises:
        InputError: the output has no name.
    """
    if not output.name:
        raise InputError(f"{str(output)!r} is not the name of an output table: give a file name such as answers.csv")

    def beside(ending: str) -> Path:
        return place.with_name(place.name + ending)

    place = output
    if os.path.islink(output):  # noqa: PTH114 - Path.is_symlink raises for a name that the system refuses; here it is not a link
        # Earlier versions put the journal next to the link: such a batch resumes there.
        earlier, place = beside(".journal"), Path(os.path.realpath(output))
        if earlier.exists() and not beside(".journal").exists():
            place = output

    return Paths(
        output=output,
        journal=beside(".journal"),
        shards=shards_of(beside(".journal")),
        lock=beside(".lock"),
        store=beside(".store"),
        spool=beside(".input.csv"),
        incoming=beside(".input.csv.new"),
        copy=beside(".input"),
        files=beside(".files"),
        notes=beside(".notes.csv"),
    )


def shards_of(journal: Path) -> Path:
    """Return the folder with the shards of a journal, which may be one that `--fresh` set aside."""
    return journal.with_name(journal.name + ".d")


def paths_of_output(output: Path) -> Paths:
    """Return the files of a batch, given its output or its journal."""
    return paths_for(Path(str(output).removesuffix(".journal")))
