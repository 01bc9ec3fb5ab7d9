"""The faults of templates and columns in a job file that has other problems, so that all are reported at once."""

from __future__ import annotations

from batchrun.batch.plan import read_options, with_texts
from batchrun.errors import InputError, lines_of
from batchrun.job.fingerprint import settings_of
from batchrun.job.validation import make_job
from batchrun.local_paths import is_url
from batchrun.prompts.combinations import combinations_of
from batchrun.prompts.placeholders import default_template
from batchrun.prompts.templates import prompter_for
from batchrun.records import JsonDict
from batchrun.tables import expand, open_source

__all__ = ["table_faults"]


def table_faults(input_name: str | None, options: JsonDict) -> tuple[str, ...]:
    """Return a text for each fault of the table, of a template over its columns, and of a name of a column.

    Args:
        input_name: path of the table; None if it is unknown. Standard input and remote tables are not
            read.
        options: valid options of the job.
    """
    if input_name is None or input_name == "-" or is_url(input_name):
        return ()
    try:
        job = with_texts(make_job(options))
    except InputError:
        return ()  # reported as a problem of the options, or found when the others are solved
    try:
        source = open_source(input_name, read_options(job))
    except InputError as exc:
        return (f"input: {exc}",)
    settings = settings_of(job)
    if not {"prompt", "turns", "messages"} & settings.keys() and "prompt" not in job.matrix:
        settings["prompt"] = default_template(source.columns) or "?"
    try:
        source = expand(source, [each.cells for each in combinations_of(settings)])
        prompter_for(settings, source.columns, job.key)
    except InputError as exc:
        return lines_of(exc)
    return ()
