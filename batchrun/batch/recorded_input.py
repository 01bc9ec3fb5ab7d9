"""The input of an earlier batch, opened again with what its journal recorded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchrun.batch.added_columns import AddedColumns
from batchrun.batch.paths import Paths
from batchrun.errors import InputError
from batchrun.prompts.combinations import combinations_of
from batchrun.tables import ReadOptions, Source, WriteOptions, expand, open_source

__all__ = ["existing_source", "recorded_source"]


def recorded_source(manifest: Mapping[str, Any], spool: Any) -> tuple[Source, WriteOptions]:
    """The input of a batch, each row as often as it is asked, and how its output is written; from its journal alone.

    Raises:
        InputError: the input is gone, or was a DataFrame.
    """
    name = manifest["input"]
    if name is None:
        raise InputError("the input of this batch was a DataFrame, which is gone; run the batch again to see its rows")
    source = open_source(spool if name == "-" else name, ReadOptions(**manifest["read_options"]))
    source = expand(source, [each.cells for each in combinations_of(manifest["settings"])])
    options = WriteOptions(**manifest["write_options"], extra_columns=AddedColumns(manifest["settings"]).types)
    return source, options


def existing_source(manifest: Mapping[str, Any], paths: Paths) -> tuple[Source, WriteOptions]:
    """The input of a batch, and how its output is written.

    Raises:
        InputError: the input is gone, or was a DataFrame.
    """
    name = paths.spool if manifest["input"] == "-" else manifest["input"]
    if name is not None and not Path(name).exists():
        raise InputError(
            f"{name}: the input of this batch is gone; put it back there, and nothing is lost: {paths.journal} still "
            "holds the answers"
        )
    return recorded_source(manifest, paths.spool)
