"""Which job a command line means: the options of a job file, flags, and the output."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchrun.job.options import Job

__all__ = ["given_options", "job_and_output"]


def given_options(table: str, flags: Mapping[str, Any], *, sending: bool = True) -> tuple[str, Path, dict[str, Any]]:
    """(input, folder of the default output, options), from the job file where there is one; flags win.

    Args:
        sending: False where nothing will be sent, so that keys may be missing in the environment.
    """
    from batchrun.job.file import table_and_options

    given = {name: value for name, value in flags.items() if value not in (None, ())}
    return table_and_options(table, given, os.environ if sending else None)


def job_and_output(name: str, folder: Path, given: Mapping[str, Any]) -> tuple[Job, Path]:
    """The job, and where its output goes."""
    from batchrun.batch.output_path import output_of
    from batchrun.clock import utc_now
    from batchrun.job.validation import make_job

    job = make_job(given)
    return job, output_of(job, folder, name, utc_now)
