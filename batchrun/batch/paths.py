"""Where a batch's files are: output, journal, lock, spool."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from batchrun.errors import InputError

__all__ = ["Paths", "paths_for", "paths_of_output"]


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of a batch.

    Attributes:
        output: the table of answers.
        journal: what is known about each row; makes a batch resumable.
        lock: held while a process works on this output.
        store: the embedded server's threads, where it is used.
        spool: a copy of the input where it came through standard input.
        incoming: the same while it is read and checked: what an accepted batch stands on is not overwritten before.
        files: folder of the files that runs made.
    """

    output: Path
    journal: Path
    lock: Path
    store: Path
    spool: Path
    incoming: Path
    files: Path

    def with_store(self, store: str | Path | None) -> Paths:
        """The same, with the embedded server's threads in a file that the user named."""
        return self if store is None else replace(self, store=Path(store))


def paths_for(output: Path) -> Paths:
    """Everything lies beside the output and begins with its name; where that is a symbolic link, beside its target, so
    that an output has one journal and one lock whatever it is called.

    Raises:
        InputError: the output has no name.
    """
    if not output.name:
        raise InputError(f"{str(output)!r}: is no name of an output table; one such as answers.csv is expected")

    def beside(ending: str) -> Path:
        return place.with_name(place.name + ending)

    place = output
    if os.path.islink(output):  # noqa: PTH114 - a name that the system refuses is not a link, and not an error here
        # Earlier versions put a journal beside the link: it is continued there.
        earlier, place = beside(".journal"), Path(os.path.realpath(output))
        if earlier.exists() and not beside(".journal").exists():
            place = output

    return Paths(
        output=output,
        journal=beside(".journal"),
        lock=beside(".lock"),
        store=beside(".store"),
        spool=beside(".input.csv"),
        incoming=beside(".input.csv.new"),
        files=beside(".files"),
    )


def paths_of_output(output: Path) -> Paths:
    """The files of a batch, named by its output or by its journal."""
    return paths_for(Path(str(output).removesuffix(".journal")))
