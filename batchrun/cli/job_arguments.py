"""JobArguments: the input and the options that the arguments of a command give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batchrun.cli.env_file import variables_for
from batchrun.records import Settings

if TYPE_CHECKING:
    from batchrun.job.options import Job

__all__ = ["JobArguments"]


@dataclass(frozen=True, slots=True)
class JobArguments:
    """The arguments of a command that takes a table or a job file. The options are not validated yet.

    Attributes:
        input_name: path of the input, or `-` for standard input.
        folder: folder for the default output: that of the job file, or the working directory.
        options: the options of the job file, updated with the given flags.
    """

    input_name: str
    folder: Path
    options: Settings

    @classmethod
    def read(cls, table: str, flags: Settings, *, sends: bool = True) -> JobArguments:
        """Return the arguments, after reading the job file if `table` names one.

        Args:
            table: path of a table or a job file, or `-`.
            flags: values of flags by option name; None and () for flags that are not given.
            sends: False for commands that send nothing, so that environment variables for keys may be missing.
        """
        from batchrun.job.file import table_and_options

        given = {name: value for name, value in flags.items() if value not in (None, ())}
        return cls(*table_and_options(table, given, variables_for(table) if sends else None))

    def job_and_output(self) -> tuple[Job, Path]:
        """Return the validated job and the path of its output."""
        from batchrun.batch.output_path import output_of
        from batchrun.clock import utc_now
        from batchrun.job.validation import make_job

        job = make_job(self.options)
        return job, output_of(job, self.folder, self.input_name, utc_now)
