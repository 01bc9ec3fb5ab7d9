"""RowTally: fills a ScoreTally with everything that statistics need of a row, except the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from batchrun.errors import InputError
from batchrun.records import Row, Value
from batchrun.scoring.score_columns import ScoreColumns
from batchrun.scoring.score_tally import RowKind, ScoreTally
from batchrun.scoring.scorers.base import as_text, is_missing
from batchrun.scoring.shared_lists import Hashes

__all__ = ["RowTally", "row_status"]

_KINDS: Final[Mapping[str, RowKind]] = {
    "completed": "answered",
    "incomplete": "answered",
    "failed": "failed",
    "expired": "failed",
    "cancelled": "failed",
    "in_flight": "unfinished",
    "pending": "unfinished",
    "skipped": "skipped",
}
"""Status of a row → what it is for the figures."""


class RowTally:
    """Adds rows to a tally.

    Mutable state: the tally, and the ids of the rows so far if epochs are recognized by the rows' contents.
    """

    def __init__(
        self,
        tally: ScoreTally,
        columns: ScoreColumns,
        prefix: str,
        *,
        own_columns: Sequence[str],
        axes: Sequence[str],
        for_comparison: bool,
    ) -> None:
        """
        Args:
            columns: with the answer column found.
            prefix: of the output columns.
            own_columns: columns that batchrun did not add.
            axes: columns of a batch's axes, except the one that splits the table.
            for_comparison: whether costs and content hashes are kept too.
        """
        self._tally = tally
        tally.axes = tuple(axes)
        self._columns = columns
        self._answer = columns.answer or ""
        self._status = f"{prefix}status"
        self._costs = tuple(prefix + name for name in ("cost_usd", "duration_s", "total_tokens"))
        self._own = own_columns
        self._axes = axes
        self._for_comparison = for_comparison
        if for_comparison:
            known, names = tally.content_hashes, (name for name in own_columns if name != columns.key)
            tally.content_hashes = {name: known[name] if name in known else Hashes() for name in names}
        self._ids: dict[tuple[int, ...], str] = {}

    def add(self, row: Row, source_name: str) -> RowKind:
        """Add a row, and return whether it has an answer to score.

        Raises:
            InputError: the column of the key or the cluster is empty in this row.
        """
        values, columns, tally = row.values, self._columns, self._tally
        status = row_status(values.get(self._status), values[self._answer])
        kind = _KINDS.get(status, "answered")
        tally.cut_short.append(status == "incomplete")
        tally.kinds.append(kind)
        if columns.key is not None:
            tally.keys.append(_key(row, columns.key, source_name))
        elif columns.epoch is not None or columns.split is not None or self._axes:
            # The first row with these contents gives the id to all that are alike.
            tally.keys.append(self._ids.setdefault(self._content_hashes(row), f"row {row.row_index}"))
        if self._axes and tally.keys:
            tally.variants.append(tuple(as_text(values[name]) for name in self._axes))
        for column, cells in (
            (columns.epoch, tally.epochs),
            (columns.cluster, tally.clusters),
            (columns.split, tally.splits),
            *tally.labels.items(),
        ):
            if column is not None:
                cells.append(as_text(values[column]))
        if columns.cluster is not None and is_missing(values[columns.cluster]):
            raise InputError(f"{source_name}, {row.where}: the cluster column {columns.cluster!r} is empty")
        if columns.labels is not None:
            tally.labels_by_hand.append(self._label(values))
        if self._for_comparison:
            costs = tally.costs
            for name, numbers in zip(self._costs, (costs.cost_usd, costs.duration_s, costs.tokens), strict=True):
                numbers.append(_float(values.get(name)))
            for name, hashes in tally.content_hashes.items():
                hashes.append(hash(as_text(values[name])))
        return kind

    def _label(self, values: Mapping[str, Value]) -> str | None:
        """Return the label of a row; if it is in a file, what identifies the row's answer there."""
        columns = self._columns
        cell = values[self._answer if columns.notes is not None else columns.labels or ""]
        if columns.notes is None:
            return None if is_missing(cell) else as_text(cell)
        from batchrun.batch.row_notes import answer_hash

        return answer_hash(None if cell is None else as_text(cell))

    def _content_hashes(self, row: Row) -> tuple[int, ...]:
        return tuple(hash(as_text(row.values[name])) for name in self._own)


def row_status(status: Value, answer: Value) -> str:
    """Return the status by which a row counts: one of batchrun's; with the word of another tool, the answer decides.

    >>> row_status("Completed", ""), row_status(None, "42"), row_status("error", ""), row_status("success", "42")
    ('completed', 'completed', 'failed', 'success')
    """
    word = status.strip().lower() if isinstance(status, str) else ""
    if word in _KINDS:
        return word
    if is_missing(answer):
        return "failed"
    return "completed" if is_missing(status) else as_text(status)


def _key(row: Row, column: str, source_name: str) -> str:
    key = row.values[column]
    if is_missing(key):
        raise InputError(f"{source_name}, {row.where}: the key column {column!r} is empty")
    return as_text(key)


def _float(cell: Value) -> float | None:
    if is_missing(cell):
        return None
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None
