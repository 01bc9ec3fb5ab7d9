"""The labels that people gave to the rows of a table: a column of it, or the ratings of `batchrun view`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batchrun.scoring.score_columns import ScoreColumns
from batchrun.scoring.score_tally import ScoreTally

__all__ = ["HandLabels", "hand_labels"]


@dataclass(frozen=True, slots=True)
class HandLabels:
    """Labels by the position of their row.

    Attributes:
        name: the column.
        texts: one per row; None for a row without a label.
        outdated: ratings of answers that the rows no longer have; they are not in `texts`.
    """

    name: str
    texts: Sequence[str | None]
    outdated: int = 0


def hand_labels(columns: ScoreColumns, tally: ScoreTally) -> HandLabels | None:
    """Return the labels of a table that has been scored; None if none are asked for.

    Args:
        columns: with `labels` found: its column in the table, or its file of ratings.

    Raises:
        InputError: the file of ratings cannot be used.
    """
    if columns.labels is None:
        return None
    if columns.notes is None:
        return HandLabels(columns.labels, tally.labels_by_hand)
    from batchrun.batch.row_notes import RowNotes

    keys = tally.keys if columns.key is not None else list(map(str, range(len(tally.kinds))))
    texts: list[str | None] = [None] * len(keys)
    outdated = 0
    for position, note in RowNotes.read(columns.notes).matched(keys).items():
        if note.answer_hash in ("", tally.labels_by_hand[position]):
            texts[position] = note.rating or None
        elif note.rating:
            outdated += 1
    return HandLabels(columns.labels, texts, outdated)
