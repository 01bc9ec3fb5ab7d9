"""The input of an earlier batch, opened again as its journal recorded it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from batchrun.batch.added_columns import recorded_columns
from batchrun.batch.paths import Paths
from batchrun.errors import InputError
from batchrun.job.options import Job
from batchrun.journal import Journal
from batchrun.local_paths import is_url
from batchrun.prompts.combinations import combinations_of
from batchrun.prompts.template_engine import names_in
from batchrun.records import Manifest
from batchrun.tables import ReadOptions, Source, WriteOptions, exists, expand, open_source
from batchrun.tables.jsonl import JsonlSource
from batchrun.tables.place import copy_in

__all__ = ["existing_source", "recorded_source", "with_columns"]


def recorded_source(manifest: Manifest, paths: Paths) -> tuple[Source, WriteOptions]:
    """Return the input of a batch with one row per combination, and the options of its output.

    Args:
        paths: the files of the batch, such as the copy of standard input or of a remote table.

    Raises:
        InputError: the input cannot be read, or was a table in memory.
    """
    name = manifest["input"]
    if name is None:
        raise InputError(
            "the input of this batch was a table in memory, which is gone: run the batch again to see its rows"
        )
    name = paths.spool if name == "-" else copy_in(paths.copy, name) if is_url(name) else name
    source = open_source(name, ReadOptions(**manifest["read_options"]))
    source = expand(source, [each.cells for each in combinations_of(manifest["settings"])])
    added = recorded_columns(manifest, source.columns)
    return source, WriteOptions(**manifest["write_options"], extra_columns=added.types)


def with_columns(source: Source, job: Job, journal: Path) -> Source:
    """Return the source of an empty JSON array, which has no columns, with those that its batch uses.

    They are the columns of the batch so far, otherwise the names in its templates, otherwise `prompt`. A nightly job
    whose table is empty for once can then be checked, and continues when the table has rows again.

    Args:
        journal: path of the batch's journal, which need not exist.
    """
    if source.columns or not isinstance(source, JsonlSource):
        return source
    columns: tuple[str, ...] = ()
    if journal.exists():
        with Journal(journal, read_only=True) as opened:
            columns = tuple(opened.read_manifest().get("columns") or ())
    if not columns:
        templates = [*(turn["prompt"] for turn in job.turns or ()), job.prompt or ""]
        names = {name for template in templates for name in names_in(template)}
        columns = (
            *sorted({*names, *filter(None, (job.key, job.thread_column, job.messages))}),
            *(job.attach or ()),
        ) or ("prompt",)
    return replace(source, columns=columns)


def existing_source(manifest: Manifest, paths: Paths) -> tuple[Source, WriteOptions]:
    """Return `recorded_source` for a batch whose input is still at its place.

    Raises:
        InputError: the input is missing, or was a table in memory.
    """
    name = paths.spool if manifest["input"] == "-" else manifest["input"]
    if name is not None and not is_url(name) and not exists(str(name)):
        raise InputError(
            f"{name}: the input of this batch is missing: restore it; {paths.journal} still holds the answers"
        )
    return recorded_source(manifest, paths)
