"""The path of a job's output: the one that the user gave, or the default."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from batchrun.batch.paths import paths_for
from batchrun.clock import WallClock
from batchrun.errors import InputError
from batchrun.job.options import Job
from batchrun.journal import Journal
from batchrun.local_paths import is_url, shown_url
from batchrun.tables import default_name, format_of, is_parts
from batchrun.tables.part_folder import is_written
from batchrun.tables.part_names import name_of_url
from batchrun.tables.table_options import check_output_format, without_ending
from batchrun.tables.target import OutputPlace
from batchrun.wording import shown_path

__all__ = ["continued_default_notice", "long_cells_notice", "output_of", "parts_ending", "target_of", "with_dates"]

_MAY_BE_LONG: Final = ("raw", "logprobs")
"""Columns of `--keep` whose cells are longer than a cell of Excel for answers of some pages."""


def with_dates(job: Job, clock: WallClock) -> Job:
    """Return the job with `{date}` in its output and its journal replaced by today's date in this machine's time zone,
    such as 2026-11-23, and with `file://` as a path.

    Raises:
        InputError: a path contains another placeholder.
    """
    output = job.output
    if isinstance(output, str) and output.startswith("file://"):
        output = url2pathname(urlsplit(output).path)
    dated = {"--output": output, "--journal": job.journal}
    for option, path in dated.items():
        unknown = re.search(r"\{(?!date\})\w+\}", str(path))
        if unknown is not None:
            raise InputError(f"{option}: unknown placeholder {unknown[0]} in {path}; only {{date}} can be used")
    today = clock().astimezone().strftime("%Y-%m-%d")
    texts = [None if path is None else str(path).replace("{date}", today) for path in dated.values()]
    return replace(job, output=texts[0], journal=None if texts[1] is None else Path(texts[1]))


def _default_output(input_name: str) -> Path:
    """Return `outputs/` with the input's own name, and so in its format.

    A folder or a pattern of parts has the folder's name and the parts' format. CSV for standard input, unknown endings,
    plain lines and archives; `.xlsx` for `.xlsm`, which is only read.
    """
    path = Path("stdin.csv" if input_name == "-" else _name_of(input_name))
    ending = path.suffix.lower()
    if ending in (".zip", ".xlsm"):
        path = path.with_suffix(".xlsx" if ending == ".xlsm" else "")
    try:
        is_lines = format_of(path, path.name).kind == "txt"
    except InputError:
        return Path("outputs") / f"{path.name or 'output'}.csv"
    return Path("outputs") / (f"{without_ending(path.name)}.csv" if is_lines else path.name)


def _name_of(input_name: str) -> str:
    if is_url(input_name):
        return name_of_url(input_name)
    return default_name(input_name) if is_parts(input_name) else Path(input_name).name


def _former_default_output(input_name: str) -> Path:
    """Return the default of earlier versions: always a CSV file, whatever the format of the input."""
    name = _default_output(input_name).name
    for ending in (".gz", ".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"):
        name = name.removesuffix(ending)
    return Path("outputs") / f"{name or 'output'}.csv"


def output_of(job: Job, folder: Path, input_name: str) -> Path:
    """Return the path of a job's output on this machine, next to which its journal is.

    Args:
        job: as `with_dates` returns it.
        folder: parent of the default `outputs` folder.

    Raises:
        InputError: the output or the journal has no usable name.
        OutputError: an earlier version's journal for this input cannot be read.
    """
    if job.journal is not None:
        return _output_of_journal(job.journal, job.output)
    if job.output is not None:
        return folder / "outputs" / Path(_named(job.output)).name if is_url(job.output) else Path(job.output)
    output, former = folder / _default_output(input_name), folder / _former_default_output(input_name)
    # A batch that an earlier version began under its own default resumes there instead of starting over.
    resumes = not paths_for(output).journal.exists() and not job.fresh and _has_batch_over(former, input_name)
    return former if resumes else output


def target_of(job: Job, local: Path) -> OutputPlace | None:
    """Return the place to which a job's output is put; None if it stays where it is written.

    Args:
        local: the path of the output on this machine.
    """
    if job.output is None:
        return None
    is_elsewhere = job.journal is not None and Path(job.output).absolute() != local.absolute()
    return OutputPlace(str(job.output)) if is_url(job.output) or is_elsewhere else None


def parts_ending(job: Job, input_name: str | None) -> str | None:
    """Return the ending of the parts, such as `.csv.gz`, if a job's output is a folder; None if it is a file.

    The name of the folder may have the ending, as `answers.parquet/`; otherwise it is that of the input.

    Raises:
        InputError: parts cannot have the format that the folder's name ends with.
    """
    if job.output is None or not _is_folder(job.output):
        return None
    name = _named(job.output).rstrip("/")
    try:
        format_of(Path(name), name)
    except InputError:
        default = _default_output(input_name or "-").name
        ending = default.removeprefix(without_ending(default))
        return ".csv" if ending == ".xlsx" else ending
    if check_output_format(Path(name), name).kind == "xlsx":
        raise InputError(f"--output: {name}/ would be a folder of workbooks; parts have another format")
    return Path(name).name.removeprefix(without_ending(Path(name).name))


def _is_folder(output: str | Path) -> bool:
    """Return whether an output is a folder of parts: its name ends with a slash, or batchrun wrote such a folder."""
    name = shown_url(str(output)) if is_url(output) else str(output)  # without its query
    return name.endswith(("/", os.sep)) or (not is_url(output) and is_written(Path(output)))


def _output_of_journal(journal: Path, output: str | Path | None) -> Path:
    if output is None:
        raise InputError("--journal: needs --output; without it the journal is next to the output in outputs")
    name, local = Path(_named(output)), journal.with_suffix("")
    ending = ""
    if not _is_folder(output):
        wanted = check_output_format(name, str(output))
        if not local.suffixes or format_of(local, str(local)) != wanted:
            ending = name.name.removeprefix(without_ending(name.name))
    if ending or journal.suffix != ".journal":
        raise InputError(
            f"--journal: {shown_path(journal)}: expected a name that ends in {ending}.journal, because the table is "
            f"written next to it before it is put to --output; try {without_ending(local.name)}{ending}.journal"
        )
    return local


def _named(output: str | Path) -> str:
    """Return an output for messages, after checking that a URL names something in a bucket.

    Raises:
        InputError: it does not.
    """
    if not is_url(output):
        return str(output)
    shown = shown_url(str(output))
    if not shown.partition("://")[2].partition("/")[2].strip("/"):
        raise InputError(f"--output: {shown} names no file or folder in the bucket; add a name such as answers.csv")
    return shown


def _has_batch_over(output: Path, input_name: str) -> bool:
    """Return whether the journal of `output` holds a batch over an input of this name."""
    journal = paths_for(output).journal
    if not journal.exists():
        return False
    with Journal(journal, read_only=True) as opened:
        earlier = opened.read_manifest().get("input")
    return earlier is not None and Path(earlier).name == Path(input_name).name


def continued_default_notice(job: Job, table: object, output: Path) -> tuple[str, ...]:
    """Return a line for people if the batch resumes under the default name of earlier versions."""
    if job.output is not None or not isinstance(table, (str, Path)):
        return ()
    default, former = _default_output(str(table)), _former_default_output(str(table))
    if default == former or output.name != former.name or output.parent.name != former.parent.name:
        return ()
    return (
        f"{shown_path(output)}: an earlier batch over this table resumes here; the default output is now {default}, in "
        "the format of the input; --output chooses another",
    )


def long_cells_notice(job: Job, output: Path) -> tuple[str, ...]:
    """Return a line for people if a column that the job keeps may be too long for a cell of its workbook.

    Args:
        output: a workbook.
    """
    long = [name for name in _MAY_BE_LONG if name in (job.keep or ())]
    if not long:
        return ()
    return (
        f"{shown_path(output)}: a cell of Excel has at most 32,767 characters, and the workbook cannot be written if a "
        f"cell of {' or '.join(long)} (--keep) is longer; --output with .csv, .jsonl or .parquet has no such limit",
    )
