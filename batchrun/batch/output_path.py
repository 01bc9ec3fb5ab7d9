"""Where a job's output goes: the path that the user gave, or the default one."""

from __future__ import annotations

import re
from pathlib import Path

from batchrun.batch.paths import paths_for
from batchrun.clock import WallClock
from batchrun.errors import InputError
from batchrun.job.options import Job
from batchrun.journal import Journal
from batchrun.tables import format_of
from batchrun.wording import shown_path

__all__ = ["continued_default_notice", "output_of"]


def _with_date(output: Path, clock: WallClock) -> Path:
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
        return _with_date(job.output, clock)
    output, former = folder / _default_output(input_name), folder / _former_default_output(input_name)
    goes_on = not paths_for(output).journal.exists() and not job.fresh and _has_batch_over(former, input_name)
    return _with_date(former if goes_on else output, clock)


def _has_batch_over(output: Path, input_name: str) -> bool:
    """Whether a batch over an input of this name wrote that output."""
    journal = paths_for(output).journal
    if not journal.exists():
        return False
    with Journal(journal, read_only=True) as opened:
        earlier = opened.read_manifest().get("input")
    return earlier is not None and Path(earlier).name == Path(input_name).name


def continued_default_notice(job: Job, table: object, output: Path) -> tuple[str, ...]:
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
