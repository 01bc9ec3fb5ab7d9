"""Scores that an earlier `score` wrote into the same table: they stay next to those of other scorers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from batchrun.errors import InputError
from batchrun.records import JsonDict, Row
from batchrun.scoring.scorers.base import as_text
from batchrun.tables import ReadOptions, Source, open_source

__all__ = ["EarlierScores", "earlier_scores"]


@dataclass(frozen=True, slots=True)
class EarlierScores:
    """The columns of other scorers in a table that is about to be replaced.

    Attributes:
        columns: types of the columns to keep, by name; empty if there are none.
        source: the table with these columns; None if nothing is kept.
        notice: a line for people about these scores; may be empty.
    """

    columns: Mapping[str, type] = field(default_factory=dict)
    source: Source | None = None
    notice: str = ""

    def cells(self) -> Iterator[JsonDict]:
        """Yield the kept cells of each row, in order."""
        if self.source is not None:
            yield from ({name: row.values.get(name) for name in self.columns} for row in self.source.rows())


def earlier_scores(output: Path, scored: Source, new: Sequence[str]) -> EarlierScores:
    """Return the scores of other scorers in a scored table. They are kept if all other cells are still the same.

    Args:
        output: the scored table, which need not exist.
        scored: the table to score.
        new: columns of the scorers that score it now.
    """
    if not output.exists():
        return EarlierScores()
    try:
        source = open_source(output, ReadOptions())
        added = [name for name in source.columns if name not in scored.columns]
        kept = [name for name in added if name.startswith("score_") and name not in new]
        if not kept:
            return EarlierScores()
        unchanged = [*scored.columns, *added] == list(source.columns) and _same_rows(scored, source)
    except InputError:
        return EarlierScores()  # not a table that `score` has written
    names = [name.removeprefix("score_") for name in kept if not _is_text(name, kept)]
    which = f"{output.name}: the scores of {', '.join(names)} from before"
    if not unchanged:
        return EarlierScores(
            notice=f"{which} are gone, since answers or other cells have changed; score again for them"
        )
    types = {name: str if _is_text(name, kept) else float for name in kept}
    return EarlierScores(types, source, f"{which} are kept next to the new ones")


def _is_text(name: str, names: Sequence[str]) -> bool:
    """Return whether a column has what a score was read from, or the reason for it."""
    return any(name.endswith(ending) and name.removesuffix(ending) in names for ending in ("_read", "_reason"))


def _same_rows(scored: Source, earlier: Source) -> bool:
    return all(
        one is not None and other is not None and _texts(one, scored.columns) == _texts(other, scored.columns)
        for one, other in zip_longest(scored.rows(), earlier.rows())
    )


def _texts(row: Row, columns: Sequence[str]) -> list[str]:
    return [as_text(row.values.get(name)) for name in columns]
