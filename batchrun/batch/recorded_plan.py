"""The plan of an earlier batch, made from its journal alone, to take in replies that are there."""

from __future__ import annotations

from dataclasses import replace

from batchrun.batch.added_columns import AddedColumns
from batchrun.batch.destination import Destination, variants_of
from batchrun.batch.paths import Paths
from batchrun.batch.plan import Plan
from batchrun.batch.recorded_input import existing_source
from batchrun.batch.selection import recorded_selection
from batchrun.job.options import Job, job_options
from batchrun.job.validation import make_job
from batchrun.prompts.combinations import combinations_of
from batchrun.prompts.rendering_version import prompter_of
from batchrun.records import Manifest
from batchrun.structured import Structure

__all__ = ["recorded_plan"]

_NOT_OPTIONS = ("schema", "file_search", "examples")
"""Settings in a journal that are the contents of files, where the options name the files."""


def recorded_plan(manifest: Manifest, paths: Paths, connection: Job) -> Plan:
    """Return the plan of a batch, without its functions: they are in a file that the journal does not have.

    Args:
        connection: credentials and other options of the connection.

    Raises:
        InputError: the input is missing.
    """
    settings = manifest["settings"]
    options = {name: value for name, value in settings.items() if name in job_options() and name not in _NOT_OPTIONS}
    job = make_job({**options, "batch_api": True})
    job = replace(
        job,
        key=manifest.get("key"),
        keep=manifest.get("keep"),
        base_url=manifest.get("base_url"),
        prices=connection.prices,
        azure=connection.azure,
        max_attempts=connection.max_attempts,
        fallback_model=manifest.get("fallback_model"),
    )
    source, write_options = existing_source(manifest, paths)
    structure = Structure.of_schema(settings["schema"]) if "schema" in settings else None
    added = AddedColumns(settings, structure, keep=job.keep or (), taken=source.columns, prefix=write_options.prefix)
    why_embedded = "answered by the embedded server" if settings["embedded"] else ""
    return Plan(
        job=job,
        input_name=manifest["input"],
        paths=paths,
        source=source,
        rows=manifest["rows"],
        prompter=prompter_of(manifest, source.columns),
        destination=Destination(settings["api"], manifest.get("base_url"), why_embedded=why_embedded),
        settings=settings,
        write_options=write_options,
        write_output=True,
        combinations=combinations_of(settings),
        variants=variants_of(job),
        models=(),
        added=added,
        structure=structure,
        selection=recorded_selection(manifest, source),
    )
