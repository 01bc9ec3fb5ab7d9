"""Exports the table of answers from the journal of a batch."""

from __future__ import annotations

from pathlib import Path

from batchrun.batch.added_columns import recorded_columns
from batchrun.batch.left_shards import take_in
from batchrun.batch.paths import paths_of_output
from batchrun.batch.recorded_input import existing_source
from batchrun.batch.results import result_cells
from batchrun.batch.selection import recorded_selection
from batchrun.journal import Journal, manifest_of
from batchrun.prompts.rendering_version import prompter_of
from batchrun.tables import check_output, write_table

__all__ = ["export_table"]


def export_table(output: Path, target: Path) -> int:
    """Write the table with the answers so far; return the number of rows.

    Raises:
        OutputError: there is no journal, it holds no batch, or the target cannot be written.
        InputError: the input is missing.
    """
    paths = paths_of_output(output)
    take_in(paths)
    with Journal(paths.journal, read_only=True) as journal:
        manifest = manifest_of(journal)
        source, options = existing_source(manifest, paths)
        # The options of a CSV were given for the output of the batch, and the target may be of another format.
        if target != paths.output:
            options = options.of_file(target)
        check_output(target, source, options)
        prompter = prompter_of(manifest, source.columns)
        added, selection = recorded_columns(manifest, source.columns), recorded_selection(manifest, source)
        return write_table(target, source, result_cells(source, prompter, journal, added, selection), options)
