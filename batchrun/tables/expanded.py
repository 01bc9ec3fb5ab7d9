"""A table that repeats every input row, once for each combination of settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchrun.errors import InputError
from batchrun.records import Row, Value
from batchrun.tables.frame import FrameSource
from batchrun.tables.source import Source, files_of, notes_of

__all__ = ["ExpandedSource", "expand"]


@dataclass(frozen=True, slots=True)
class ExpandedSource:
    """Each row of `source` once per combination, with the combination's cells after those of the row.

    Attributes:
        source: the input.
        combinations: the cells of each combination by column. All combinations have the same columns.
    """

    source: Source
    combinations: tuple[Mapping[str, Value], ...]

    @property
    def name(self) -> str:
        """The name of the input."""
        return self.source.name

    def files(self) -> tuple[Path, ...]:
        """Return the files of the input."""
        return files_of(self.source)

    @property
    def has_header(self) -> bool:
        """Whether the first line of the input has the names of its columns."""
        return getattr(self.source, "has_header", False)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the input and of the combinations."""
        return (*self.source.columns, *self.combinations[0])

    @property
    def notes(self) -> tuple[str, ...]:
        """The lines about the input."""
        return notes_of(self.source)

    def rows(self) -> Iterator[Row]:
        """Yield the input's rows in order, each in all combinations. `row_index` counts the yielded rows."""
        index = 0
        for row in self.source.rows():
            for cells in self.combinations:
                yield Row(index, {**row.values, **cells}, row.line, row.part)
                index += 1

    def fingerprint(self) -> str:
        """Return the fingerprint of the input. The combinations are in the settings of the journal."""
        return self.source.fingerprint()


def expand(source: Source, combinations: Sequence[Mapping[str, Value]]) -> Source:
    """Return the source with every row once per combination, or the source itself if combinations have no columns.

    Raises:
        InputError: the input has a column with the name of a combination's column.
    """
    if not combinations[0]:
        return source
    twice = [column for column in combinations[0] if column in source.columns]
    if twice:
        raise InputError(f"{source.name}: the column {twice[0]!r} has the name of a column for combinations; rename it")
    if isinstance(source, FrameSource):
        return _expanded_frame(source, combinations)
    return ExpandedSource(source, tuple(combinations))


def _expanded_frame(source: FrameSource, combinations: Sequence[Mapping[str, Value]]) -> FrameSource:
    """Return the expanded frame. It keeps its dtypes; the rows of one input row share its index value."""
    import numpy as np

    rows = len(source.frame)
    frame = source.frame.iloc[np.repeat(np.arange(rows), len(combinations))]
    cells = {name: [each[name] for each in combinations] * rows for name in combinations[0]}
    return FrameSource(frame.assign(**cells), (*source.columns, *combinations[0]), source)
