"""JobArguments: the input and the options that the arguments of a command give."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batchrun.cli.env_file import variables_for
from batchrun.errors import InputError
from batchrun.records import JsonDict, Settings

if TYPE_CHECKING:
    from batchrun.job.file import JobFile
    from batchrun.job.options import Job

__all__ = ["JobArguments"]


@dataclass(frozen=True, slots=True)
class JobArguments:
    """The arguments of a command that takes a table or a job file. The options are not validated yet.

    Attributes:
        input_name: path of the input, or `-` for standard input.
        folder: folder for the default output: that of the job file, or the working directory.
        options: the options of the job file, updated with the given flags.
        file: the job file, None if the argument is a table.
        flags: names of the options that were given as flags.
    """

    input_name: str
    folder: Path
    options: Settings
    file: JobFile | None = None
    flags: frozenset[str] = frozenset()

    @classmethod
    def read(cls, table: str, flags: Settings, *, sends: bool = True) -> JobArguments:
        """Return the arguments, after reading the job file if `table` names one.

        Args:
            table: path of a table or a job file, or `-`.
            flags: values of flags by option name; None and () for flags that are not given. Those of scoring are
                left out.
            sends: False for commands that send nothing, so that environment variables for keys may be missing.
        """
        from batchrun.job.file import is_job_file, read_job_file, table_and_options
        from batchrun.job.options import job_options
        from batchrun.scoring.score_options import score_problems

        known = job_options()
        given = {name: value for name, value in flags.items() if name in known and value not in (None, ())}
        if not is_job_file(table):
            return cls(*table_and_options(table, given, None))
        environ = variables_for(table) if sends else None
        file = read_job_file(Path(table), environ, {"score": score_problems}, _table_faults)
        options = {**file.options, **given}
        return cls(file.checked_input(), Path(table).parent, options, file, frozenset(given))

    @contextmanager
    def located(self) -> Iterator[None]:
        """Give errors of the block that name a key of the job file the line of that key.

        An error about an option that a flag gave is left in the words of the command line.
        """
        try:
            yield
        except InputError as exc:
            if self.file is not None:
                keys = self.file.options.keys() - self.flags
                exc.args = (self.file.origins.located(str(exc), dict.fromkeys(keys)), *exc.args[1:])
                notes: list[str] = getattr(exc, "__notes__", [])
                notes[:] = [self.file.origins.located(note, dict.fromkeys(keys)) for note in notes]
            raise

    def job_and_output(self) -> tuple[Job, Path]:
        """Return the validated job and the path of its output on this machine."""
        from batchrun.batch.output_path import output_of, with_dates
        from batchrun.clock import utc_now
        from batchrun.job.validation import make_job

        with self.located():
            job = with_dates(make_job(self.options), utc_now)
            return job, output_of(job, self.folder, self.input_name)


def _table_faults(input_name: str | None, options: JsonDict) -> tuple[str, ...]:
    from batchrun.batch.table_faults import table_faults

    return table_faults(input_name, options)
