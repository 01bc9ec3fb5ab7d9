"""ScoreTally: the part of a scored table that statistics need, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias, TypeVar, get_args, overload

import numpy as np
import numpy.typing as npt

from batchrun.scoring.compact import Choices, Coded, Flags, Numbers
from batchrun.scoring.shared_lists import Hashes, Texts

__all__ = ["PairKey", "PairKeys", "RowCosts", "RowKind", "ScoreTally"]


RowKind: TypeAlias = Literal["answered", "failed", "unfinished", "skipped"]
"""Whether a row has an answer to score, has failed, has not ended yet, or was left out and counts nowhere."""

_T = TypeVar("_T")


class PairKey(NamedTuple):
    """The values by which a row is paired with a row of another table.

    Attributes:
        key: the row's id.
        variant: the values of the batch's axes; () without axes.
        epoch: "" without epochs, or where they do not count.
    """

    key: str
    variant: tuple[str, ...]
    epoch: str


@dataclass(frozen=True, slots=True)
class RowCosts:
    """The costs of the rows, each list with one entry per row; None if unknown.

    Mutable state: the lists.
    """

    cost_usd: Numbers = field(default_factory=Numbers)
    duration_s: Numbers = field(default_factory=Numbers)
    tokens: Numbers = field(default_factory=Numbers)

    def part(self, positions: Sequence[int]) -> RowCosts:
        """Return the costs of some rows; nothing if none are kept."""
        if not self.cost_usd:
            return RowCosts()
        return RowCosts(*(each.part(positions) for each in (self.cost_usd, self.duration_s, self.tokens)))


class PairKeys(Sequence[PairKey]):
    """The pair keys of a table's rows, each made when it is asked for."""

    def __init__(self, tally: ScoreTally, *, with_epochs: bool) -> None:
        self._tally = tally
        self._with_epochs = with_epochs and len(tally.epochs) > 0

    @property
    def has_more_than_key(self) -> bool:
        """Whether two rows with the same key may have different pair keys."""
        return self._with_epochs or len(self._tally.variants) > 0

    def is_same(self, other: PairKeys) -> bool:
        """Return whether the pair keys are keys alone, and the tables are known to have the same in the same order."""
        return not (self.has_more_than_key or other.has_more_than_key) and self._tally.keys.is_same(other._tally.keys)

    def __len__(self) -> int:
        return len(self._tally.keys)

    def __iter__(self) -> Iterator[PairKey]:
        return map(self.__getitem__, range(len(self)))

    @overload
    def __getitem__(self, position: int) -> PairKey: ...

    @overload
    def __getitem__(self, position: slice) -> Sequence[PairKey]: ...

    def __getitem__(self, position: int | slice) -> PairKey | Sequence[PairKey]:
        if isinstance(position, slice):
            return [self[each] for each in range(*position.indices(len(self)))]
        tally = self._tally
        return PairKey(
            tally.keys[position],
            tally.variants[position] if tally.variants else (),
            tally.epochs[position] if self._with_epochs else "",
        )


@dataclass(slots=True)
class ScoreTally:
    """The values that are kept of a scored table: each list has one entry per row.

    Mutable state: all lists and dictionaries, which grow with every scored row.

    Attributes:
        kinds: whether the rows have answers.
        values: scorer → values; None if the row has no score.
        reasons: scorer → why an answered row has no score; None for other rows.
        keys: row ids as text. Without a key column, but with epochs, a split or an axis, rows that are alike in all
            columns that batchrun did not add share an id. Otherwise empty.
        epochs, clusters, splits: cells as text; empty if there is no such column.
        axes: the names of a batch's other axes, `axis_…`.
        variants: the cells of these axes; empty without axes.
        labels: column of `--by` → cells as text.
        targets: scorer → whether the rows have an expected answer; without scorers for which no such column is named.
        needs_target: scorers that can only judge rows with an expected answer.
        labels_by_hand: cells of the column of `--labels` as text, None for an empty one; if the labels are in a
            file, what identifies the answers that they are about (`batchrun.batch.row_notes.answer_hash`). Empty
            without them.
        cut_short: whether the rows' answers were cut short; these are scored like the others.
        costs: costs of the rows; only for comparisons.
        content_hashes: column that batchrun did not add → hashes of its cells; without the key column, whose cells
            are equal in a pair; only for comparisons.
    """

    kinds: Choices[RowKind] = field(default_factory=lambda: Choices(get_args(RowKind)))
    values: dict[str, Numbers] = field(default_factory=dict)
    reasons: dict[str, Coded[str | None]] = field(default_factory=dict)
    keys: Texts = field(default_factory=Texts)
    epochs: MutableSequence[str] = field(default_factory=Coded)
    axes: tuple[str, ...] = ()
    variants: MutableSequence[tuple[str, ...]] = field(default_factory=Coded)
    clusters: MutableSequence[str] = field(default_factory=Coded)
    splits: MutableSequence[str] = field(default_factory=Coded)
    labels: dict[str, MutableSequence[str]] = field(default_factory=dict)
    targets: dict[str, Flags] = field(default_factory=dict)
    needs_target: set[str] = field(default_factory=set)
    labels_by_hand: MutableSequence[str | None] = field(default_factory=Coded)
    cut_short: Flags = field(default_factory=Flags)
    costs: RowCosts = field(default_factory=RowCosts)
    content_hashes: dict[str, Hashes] = field(default_factory=dict)

    @classmethod
    def like(cls, other: ScoreTally) -> ScoreTally:
        """Return an empty tally for a table that probably has the same rows: keys and hashes are shared while equal.

        Args:
            other: the tally of a table that has been scored.
        """
        hashes = {column: Hashes(like=each) for column, each in other.content_hashes.items()}
        return cls(keys=Texts(like=other.keys), content_hashes=hashes)

    @property
    def incomplete(self) -> int:
        """Number of rows whose answer was cut short."""
        return sum(self.cut_short)

    def can_judge(self, name: str, position: int) -> bool:
        """Return whether a scorer can judge a row if the row has an answer: it has the target that the scorer needs."""
        return name not in self.needs_target or self._has_target(name, position)

    def failed_without_target(self) -> dict[str, list[int]]:
        """Return scorer → positions of failed rows that it could not judge even if they had an answer."""
        return {
            name: [
                position
                for position, kind in enumerate(self.kinds)
                if kind == "failed" and not self.can_judge(name, position)
            ]
            for name in self.values
        }

    def is_expected(self, name: str, position: int) -> bool:
        """Return whether a row counts for `--min-scored`: it was to be run, and has a target if the scorer uses one.

        A scorer that needs no target may still give no score to a row without one; then that row is not expected.
        """
        if self.kinds[position] == "skipped" or not self.can_judge(name, position):
            return False
        is_judged = self.kinds[position] != "answered" or self.values[name][position] is not None
        return is_judged or self._has_target(name, position)

    def judgeable(self, name: str, rows: slice = slice(None)) -> npt.NDArray[np.bool_]:
        """Return `can_judge` of a slice of the rows."""
        if name not in self.needs_target or name not in self.targets:
            return np.ones(len(range(*rows.indices(len(self.kinds)))), dtype=np.bool_)
        return self.targets[name].array[rows]

    def expected(self, name: str, rows: slice = slice(None)) -> npt.NDArray[np.bool_]:
        """Return `is_expected` of a slice of the rows."""
        is_judged = ~self.kinds.are("answered", rows) | self.values[name].column.are_known(rows)
        has_target = self.targets[name].array[rows] if name in self.targets else True
        return ~self.kinds.are("skipped", rows) & self.judgeable(name, rows) & (is_judged | has_target)

    def _has_target(self, name: str, position: int) -> bool:
        return name not in self.targets or self.targets[name][position]

    def pair_keys(self, positions: Iterable[int] | None = None, *, with_epochs: bool = True) -> list[PairKey]:
        """Return the pair keys of some rows; of all rows if `positions` is None."""
        keys = PairKeys(self, with_epochs=with_epochs)
        return list(keys) if positions is None else [keys[position] for position in positions]

    def part(self, positions: Sequence[int]) -> ScoreTally:
        """Return the tally of some rows.

        Args:
            positions: of the rows, in ascending order.
        """

        def selected(entries: MutableSequence[_T]) -> MutableSequence[_T]:
            return Coded(entries[position] for position in positions) if entries else Coded()

        return ScoreTally(
            kinds=self.kinds.part(positions),
            values={name: values.part(positions) for name, values in self.values.items()},
            reasons={name: reasons.part(positions) for name, reasons in self.reasons.items()},
            keys=self.keys.part(positions if self.keys else ()),
            epochs=selected(self.epochs),
            axes=self.axes,
            variants=selected(self.variants),
            clusters=selected(self.clusters),
            splits=selected(self.splits),
            labels={column: selected(labels) for column, labels in self.labels.items()},
            targets={name: flags.part(positions) for name, flags in self.targets.items()},
            needs_target=self.needs_target,
            labels_by_hand=selected(self.labels_by_hand),
            cut_short=self.cut_short.part(positions),
            costs=self.costs.part(positions),
            content_hashes={column: hashes.part(positions) for column, hashes in self.content_hashes.items()},
        )
