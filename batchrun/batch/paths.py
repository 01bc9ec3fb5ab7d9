"""Where a batch's files are: output, journal, lock, spool."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from batchrun.clock import WallClock
from batchrun.errors import InputError
from batchrun.job.options import Job
from batchrun.journal import Journal
from batchrun.tables import format_of
from batchrun.wording import shown_path

__all__ = ["Paths", "output_of", "paths_for"]


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


def _dated(output: Path, clock: WallClock) -> Path:
    """The path with `{date}` in it replaced by today's, as 2026-11-23, in this machine's time zone."""
    return Path(str(output).replace("{date}", clock().astimezone().strftime("%Y-%m-%d")))


def _default_output(input_name: str) -> Path:
    """In `outputs`, under the input's own name and so in its format; CSV for standard input and unknown endings."""
    name = "stdin" if input_name == "-" else Path(input_name).name
    try:
        format_of(Path(name), name)
    except InputError:
        name = f"{name or 'output'}.csv"
    return Path("outputs") / name


def _former_default_output(input_name: str) -> Path:
    """Where earlier versions wrote, whatever the format of the input."""
    name = _default_output(input_name).name
    for ending in (".gz", ".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"):
        name = name.removesuffix(ending)
    return Path("outputs") / f"{name or 'output'}.csv"


def output_of(job: Job, folder: Path, input_name: str, clock: WallClock) -> Path:
    """Where a job's output goes.

    Args:
        folder: of the default output.

    Raises:
        OutputError: an earlier version's journal for this input is there, and cannot be read.
    """
    if job.output is not None:
        unknown = re.search(r"\{(?!date\})\w+\}", str(job.output))
        if unknown is not None:
            raise InputError(f"--output: only {{date}} is replaced in a path, and {job.output} has {unknown[0]}")
        return _dated(job.output, clock)
    output, former = folder / _default_output(input_name), folder / _former_default_output(input_name)
    goes_on = not paths_for(output).journal.exists() and not job.fresh and _began_over(former, input_name)
    return _dated(former if goes_on else output, clock)


def _began_over(output: Path, input_name: str) -> bool:
    """Whether a batch over an input of this name wrote that output."""
    journal = paths_for(output).journal
    if not journal.exists():
        return False
    with Journal(journal, read_only=True) as opened:
        earlier = opened.read_manifest().get("input")
    return earlier is not None and Path(earlier).name == Path(input_name).name


def _changed_default(job: Job, table: object, output: Path) -> tuple[str, ...]:
    """A line where a batch goes on under the default name of earlier versions."""
    if job.output is not None or not isinstance(table, (str, Path)):
        return ()
    default, former = _default_output(str(table)), _former_default_output(str(table))
    if default == former or output.name != former.name or output.parent.name != former.parent.name:
        return ()
    return (
        f"{shown_path(output)}: an earlier batch over this table is continued there; since then the default output has "
        f"the format of the input ({default}): say --output to choose",
    )
