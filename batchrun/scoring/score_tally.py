"""What scoring counts, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

__all__ = ["Mark", "RowKind", "ScoreTally"]


RowKind: TypeAlias = Literal["answered", "failed", "unfinished"]
"""What is there to be scored: an answer; none, since the row failed; none yet."""


Mark: TypeAlias = tuple[str, tuple[str, ...], str]
"""Key, variant and epoch of a row: what it shares with its like in another table."""


_T = TypeVar("_T")


@dataclass(slots=True)
class ScoreTally:
    """What is kept of a scored table, one entry a row in each list.

    Attributes:
        kinds: what was there to be scored.
        values: scorer → values; None where there is none.
        reasons: scorer → position of an answered row without a value → why.
        keys: cells as text. Where no column was named but there is one of epochs, a split or an axis, rows that are
            alike in all columns that batchrun did not add share a key; else empty.
        epochs, clusters, splits: cells as text; empty lists where there is no such column.
        variants: the cells of a batch's other axes, `axis_…`; empty where there are none.
        labels: column of `--by` → cells as text.
        cut_short: positions of rows whose answer was; they are scored as they are.
        facts: of each row, what comparisons need: cost in US dollars, duration in seconds and tokens,
            None where not known.
        contents: hashes of the cells of the columns that batchrun did not add, in their order, of each row; only
            for comparisons.
    """

    kinds: list[RowKind] = field(default_factory=list)
    values: dict[str, list[float | None]] = field(default_factory=dict)
    reasons: dict[str, dict[int, str]] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    epochs: list[str] = field(default_factory=list)
    variants: list[tuple[str, ...]] = field(default_factory=list)
    clusters: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    labels: dict[str, list[str]] = field(default_factory=dict)
    cut_short: list[int] = field(default_factory=list)
    facts: list[tuple[float | None, float | None, float | None]] = field(default_factory=list)
    contents: list[tuple[int, ...]] = field(default_factory=list)

    @property
    def incomplete(self) -> int:
        """Rows whose answer was cut short."""
        return len(self.cut_short)

    def marks(self, positions: Iterable[int] | None = None, *, epochs: bool = True) -> list[Mark]:
        """Of each row (None: of all) key, variant and epoch; "" and () where there are none, or they are not wanted."""
        chosen = range(len(self.keys)) if positions is None else positions
        return [
            (
                self.keys[position],
                self.variants[position] if self.variants else (),
                self.epochs[position] if self.epochs and epochs else "",
            )
            for position in chosen
        ]

    def part(self, positions: Sequence[int]) -> ScoreTally:
        """What was kept of some rows; the positions rise."""
        places = {position: place for place, position in enumerate(positions)}

        def taken(given: list[_T]) -> list[_T]:
            return [given[position] for position in positions] if given else []

        return ScoreTally(
            kinds=taken(self.kinds),
            values={name: taken(values) for name, values in self.values.items()},
            reasons={
                name: {places[position]: reason for position, reason in reasons.items() if position in places}
                for name, reasons in self.reasons.items()
            },
            keys=taken(self.keys),
            epochs=taken(self.epochs),
            variants=taken(self.variants),
            clusters=taken(self.clusters),
            splits=taken(self.splits),
            labels={column: taken(labels) for column, labels in self.labels.items()},
            cut_short=[places[position] for position in self.cut_short if position in places],
            facts=taken(self.facts),
            contents=taken(self.contents),
        )
