"""The files of a job that decide its answers: functions, the schema of answers, and files to search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from batchrun.errors import InputError
from batchrun.functions import Toolbox
from batchrun.job.options import Job
from batchrun.prompts.local_files import LocalFile
from batchrun.structured import Structure

__all__ = ["JobFiles", "structure_of", "toolbox_of"]


@dataclass(frozen=True, slots=True)
class JobFiles:
    """The files of a job that decide its answers, loaded."""

    toolbox: Toolbox | None
    structure: Structure | None
    searched: tuple[LocalFile, ...]


def toolbox_of(job: Job) -> Toolbox | None:
    """Return the user's functions, None without --tools."""
    if job.tools is None:
        return None
    if job.functions:
        raise InputError("--tools and `functions` cannot be combined: batchrun can call only the functions of --tools")
    if isinstance(job.tools, Path):
        return Toolbox.load(job.tools, timeout_s=job.tool_timeout)
    return Toolbox.of(job.tools, timeout_s=job.tool_timeout)


def structure_of(job: Job) -> Structure | None:
    """Return the schema of the answers, None without --schema."""
    if job.schema is None:
        return None
    if job.response_format is not None or "response_format" in job.matrix:
        raise InputError("--schema and `response_format` cannot be combined: a schema sets the response format")
    if isinstance(job.schema, str):
        return Structure.load(job.schema, Path())
    return Structure.of_schema(job.schema) if isinstance(job.schema, dict) else Structure.of_model(job.schema)
