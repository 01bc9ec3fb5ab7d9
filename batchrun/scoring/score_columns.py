"""ScoreColumns: the columns of a table that scoring uses, and the search for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from batchrun.errors import InputError
from batchrun.job.option_values import suggestion
from batchrun.prompts.combinations import AXIS_PREFIX, EPOCH
from batchrun.shell_hint import command
from batchrun.tables import Source

__all__ = ["ScoreColumns", "columns_text", "found_columns", "found_target"]


@dataclass(frozen=True, slots=True)
class ScoreColumns:
    """The columns of a table by their meaning.

    Attributes:
        answer: column with the answer; None selects `response`, or the only column that is named so after a prefix.
        target: column with the expected answer; None if the scorers need none.
        target_path: the fields, and positions in lists, that lead to the expected answer within that column.
        key: column with row ids. Rows with the same id are epochs of one row, or the same row of another table.
        epoch: column with the number of a repetition; None selects `epoch` if the table has it.
        cluster: column with the cluster of a row; the rows of a cluster are not independent.
        split: column by which rows are split into parts that are compared. The name of a batch's option selects its
            axis: `model` selects `axis_model` if the table has it, else the model that answered.
        ignore: columns that do not belong to what a row asks; each is in at least one of the compared tables.
        labels: column with hand labels.
        notes: the file with the labels, if they are ratings of `batchrun view` and no column of the table.
        by: columns to break scores down by; the name of a batch's option selects its axis, as for `split`.
    """

    answer: str | None = None
    target: str | None = None
    target_path: tuple[str, ...] = ()
    key: str | None = None
    epoch: str | None = None
    cluster: str | None = None
    split: str | None = None
    by: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    labels: str | None = None
    notes: Path | None = None


def found_columns(source: Source, columns: ScoreColumns) -> tuple[ScoreColumns, str]:
    """Find the columns of a table.

    Returns:
        The columns, with an answer column; and the prefix of the output columns, usually "".

    Raises:
        InputError: a named column does not exist, or no answer column is found.
    """
    answer, prefix = _answer_column(source, columns.answer)
    split = None if columns.split is None else _axis_or_column(columns.split, source)
    by = tuple(_axis_or_column(column, source) for column in columns.by)
    target, target_path = (None, ()) if columns.target is None else found_target(source, columns.target)
    for option, column in (
        ("key", columns.key),
        ("epochs-column", columns.epoch),
        ("cluster", columns.cluster),
        *(("by", column) for column in by),
        ("split", split),
    ):
        if column is not None and column not in source.columns:
            raise _no_column(option, column, source)
    notes = None
    if columns.labels is not None and columns.labels not in source.columns:
        notes = _ratings(columns.labels, source)
    epoch = columns.epoch or (EPOCH if EPOCH in source.columns else None)
    found = replace(
        columns, answer=answer, target=target, target_path=target_path, epoch=epoch, split=split, by=by, notes=notes
    )
    return found, prefix


def found_target(source: Source, name: str) -> tuple[str, tuple[str, ...]]:
    """Return the target's column, and the path within it; `answers.text` is the column of that name if it exists.

    Raises:
        InputError: the table has no such column.
    """
    if name in source.columns:
        return name, ()
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        if (column := ".".join(parts[:count])) in source.columns and all(parts[count:]):
            return column, tuple(parts[count:])
    raise _no_column("target", name, source)


def _ratings(name: str, source: Source) -> Path:
    """Return the file with the ratings of a table's rows, which has the column `rating`.

    Raises:
        InputError: another column is named, or there is no such file.
    """
    from batchrun.batch.paths import paths_of_output

    if name != "rating":
        raise _no_column("labels", name, source)
    notes = paths_of_output(Path(source.name)).notes
    if not Path(source.name).exists():
        raise InputError(
            f"--labels rating: {source.name} has no such column, and no file with this name exists; ratings are kept "
            "next to the file that batchrun view shows"
        )
    if not notes.exists():
        raise InputError(
            f"--labels rating: {source.name} has no such column, and there is no file {notes}; rate answers with "
            f"{command('view', source.name)}"
        )
    return notes


def _axis_or_column(name: str, source: Source) -> str:
    """Return the axis of a batch's option if the table has it, else the name."""
    return f"{AXIS_PREFIX}{name}" if f"{AXIS_PREFIX}{name}" in source.columns else name


def _answer_column(source: Source, named: str | None) -> tuple[str, str]:
    """Return the answer column, and the prefix of the output columns."""
    if named is not None:
        if named not in source.columns:
            raise _no_column("answer", named, source)
        return named, named.removesuffix("response") if named.endswith("response") else ""
    if "response" in source.columns:
        return "response", ""
    prefixes = [column.removesuffix("response") for column in source.columns if column.endswith("response")]
    prefixes = [prefix for prefix in prefixes if f"{prefix}status" in source.columns]
    if len(prefixes) == 1:
        return f"{prefixes[0]}response", prefixes[0]
    meant = Path(source.name).parent / "outputs" / Path(source.name).name
    raise InputError(
        f"{source.name}: the table has no column 'response'; name the answer column with --answer COLUMN "
        f"({columns_text(source.columns)}){f'; did you mean {meant}?' if meant.exists() else ''}"
    )


def _no_column(option: str, column: str, source: Source) -> InputError:
    near = suggestion(column, source.columns)
    return InputError(f"--{option} {column}: {source.name} has no such column ({columns_text(source.columns)}){near}")


def columns_text(columns: Sequence[str]) -> str:
    """Return the names of a table's columns for a message."""
    return f"columns: {', '.join(map(repr, columns))}"
