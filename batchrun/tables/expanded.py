"""A table in which every input row stands several times, once for each combination of settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchrun.errors import InputError
from batchrun.records import Row, Value
from batchrun.tables.frame import FrameSource
from batchrun.tables.source import Source

__all__ = ["ExpandedSource", "expand"]


@dataclass(frozen=True, slots=True)
class ExpandedSource:
    """Each row of `source` as many times as there are `combinations`, whose cells stand behind its own.

    Attributes:
        combinations: column → cell; all with the same columns.
    """

    source: Source
    combinations: tuple[Mapping[str, Value], ...]

    @property
    def name(self) -> str:
        """The input's."""
        return self.source.name

    @property
    def path(self) -> Path | None:
        """The input's, None where it is no file."""
        return getattr(self.source, "path", None)

    @property
    def columns(self) -> tuple[str, ...]:
        """The input's, and those of the combinations."""
        return (*self.source.columns, *self.combinations[0])

    def rows(self) -> Iterator[Row]:
        """The input's rows in order, each in all combinations before the next; `row_index` counts all of them."""
        index = 0
        for row in self.source.rows():
            for cells in self.combinations:
                yield Row(index, {**row.values, **cells}, row.line)
                index += 1

    def fingerprint(self) -> str:
        """The input's: what is made of it is said elsewhere."""
        return self.source.fingerprint()


def expand(source: Source, combinations: Sequence[Mapping[str, Value]]) -> Source:
    """The source with every row in all combinations; the source itself where there is one without columns.

    Raises:
        InputError: the input has a column of the same name as one of theirs.
    """
    if not combinations[0]:
        return source
    twice = [column for column in combinations[0] if column in source.columns]
    if twice:
        raise InputError(f"{source.name}: the column {twice[0]!r} is also one that tells combinations apart; rename it")
    if isinstance(source, FrameSource):
        return _expanded_frame(source, combinations)
    return ExpandedSource(source, tuple(combinations))


def _expanded_frame(source: FrameSource, combinations: Sequence[Mapping[str, Value]]) -> FrameSource:
    """The same as a frame, which keeps its dtypes; an index value then stands in several rows."""
    import numpy as np

    rows = len(source.frame)
    frame = source.frame.iloc[np.repeat(np.arange(rows), len(combinations))]
    cells = {name: [each[name] for each in combinations] * rows for name in combinations[0]}
    return FrameSource(frame.assign(**cells), (*source.columns, *combinations[0]), source)
