"""Stage 7: writes the output from the input and the journal, even if the input changed while the batch ran."""

from __future__ import annotations

from pathlib import Path

from batchrun.batch.plan import Plan
from batchrun.batch.recorded_input import recorded_source
from batchrun.batch.results import pending_cells, result_cells
from batchrun.batch.selection import Selection, recorded_selection
from batchrun.batch.totals import Totals, count_cells, count_formulas
from batchrun.batch.written_output import WrittenOutput
from batchrun.errors import InputError
from batchrun.journal import Journal
from batchrun.prompts.templates import Prompter, prompter_for
from batchrun.tables import InputWatch, Source, check_output, write_table

__all__ = ["write_output"]


def write_output(
    plan: Plan, journal: Journal, input_watch: InputWatch, earlier: WrittenOutput
) -> tuple[Path | None, Totals]:
    """Write the output, unless an earlier run wrote the same; return its path and the counts over its rows.

    The path is None if nothing was written and no earlier output holds.

    If the input changed while the batch ran, rows whose prompt is another one now are pending.

    Raises:
        InputError: the input changed and can no longer be used.
        OutputError: the output cannot be written.
    """
    try:
        if not input_watch.changed():
            if plan.write_output and (totals := earlier.touched(plan.paths.output, journal)) is not None:
                return plan.paths.output, totals
            return _write_table(plan, journal, plan.source, plan.prompter, plan.selection)
    except (InputError, ValueError):  # ValueError: the input became longer or shorter while the output was written
        if not input_watch.changed():
            raise
    try:
        source, _ = recorded_source(journal.read_manifest(), plan.paths)
        check_output(plan.paths.output, source, plan.write_options)
        selection = recorded_selection(journal.read_manifest(), source)
        return _write_table(plan, journal, source, _prompter_of(plan, source), selection)
    except (InputError, ValueError) as exc:
        raise InputError(
            f"the input changed while the batch ran, and cannot be used now ({exc}): restore it and run the same "
            f"command again; {plan.paths.journal} holds the answers, and no row is sent twice"
        ) from exc


def _prompter_of(plan: Plan, source: Source) -> Prompter | None:
    """Return the prompter for an input that changed; None if the prompt does not fit it."""
    try:
        return prompter_for(plan.settings, source.columns, plan.job.key)
    except InputError:
        return None


def _write_table(
    plan: Plan, journal: Journal, source: Source, prompter: Prompter | None, selection: Selection | None
) -> tuple[Path | None, Totals]:
    """Write the table, unless every row is pending: an earlier output is better than none. A table without rows has
    only a header, one of which no row is selected has its rows without answers.

    Args:
        prompter: None makes every row pending.
    """
    totals = Totals()
    added, options = plan.added.with_found(journal, plan.write_options)
    found = (
        pending_cells(source, added, selection)
        if prompter is None
        else result_cells(source, prompter, journal, added, selection)
    )
    cells = count_cells(found, totals)
    if (
        plan.write_output
        and not plan.write_options.safe_csv
        and plan.write_options.output_format(plan.paths.output).kind in ("csv", "tsv")
    ):
        cells = count_formulas(cells, totals)
    if plan.write_output and (not journal.is_empty() or plan.rows_to_ask == 0):
        # The answers of an output must be in the journal, even after a power failure: otherwise they are sent again.
        journal.settle()
        write_table(plan.paths.output, source, cells, options)
        WrittenOutput.keep(plan.paths.output, journal, totals)
        return plan.paths.output, totals
    for _ in cells:
        pass
    return None, totals
