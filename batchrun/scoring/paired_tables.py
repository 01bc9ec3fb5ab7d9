"""PairedTables: the rows of two tables, paired, and the ways in which they do not match.

Rows are paired if they have the same key; in a batch with several settings also the same values on its other axes,
and with repeated rows the same epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchrun.scoring.contender import Contender
from batchrun.scoring.pieces import pieces_of
from batchrun.scoring.row_codes import Codes, first_places, has_repeats, row_codes, taken
from batchrun.scoring.score_tally import PairKey, PairKeys
from batchrun.scoring.scored_rows import Members
from batchrun.wording import rows_text

__all__ = ["PairedTables", "are_in"]


@dataclass(frozen=True, slots=True)
class PairedTables:
    """The rows of two tables, or of parts of one; each pair key is a number, and so is each key.

    Attributes:
        first_keys, second_keys: pair keys of the rows.
        first_codes, second_codes: their numbers.
        size: number of different pair keys.
        keys_of_pairs: pair key → key; None if they are the same.
        key_count: number of different keys.
        rows_of_keys: key → the last row of the first table that has it; -1 for none.
    """

    first: Contender
    second: Contender
    first_keys: PairKeys
    second_keys: PairKeys
    first_codes: Codes
    second_codes: Codes
    size: int
    keys_of_pairs: Codes | None
    key_count: int
    rows_of_keys: Codes

    @classmethod
    def of(cls, first: Contender, second: Contender) -> PairedTables:
        """Pair the rows of two tables. If no row is repeated, an epoch column means something else."""
        tallies = (first.tally, second.tally)
        keys = [PairKeys(tally, with_epochs=False) for tally in tallies]
        *codes, size = _codes(*keys)
        if all(tally.epochs for tally in tallies) and any(_are_repeated(each, size) for each in codes):
            keys = [PairKeys(tally, with_epochs=True) for tally in tallies]
            *codes, size = row_codes(*keys)
        keys_of_pairs, key_count, of_first = None, size, codes[0]
        if any(each.has_more_than_key for each in keys):
            of_first, of_second, key_count = row_codes(*(tally.keys for tally in tallies))
            keys_of_pairs = np.empty(size, dtype=np.int32)
            keys_of_pairs[codes[0]], keys_of_pairs[codes[1]] = of_first, of_second
        return cls(
            first=first,
            second=second,
            first_keys=keys[0],
            second_keys=keys[1],
            first_codes=codes[0],
            second_codes=codes[1],
            size=size,
            keys_of_pairs=keys_of_pairs,
            key_count=key_count,
            rows_of_keys=_last_rows(of_first, key_count),
        )

    @property
    def share_a_row(self) -> bool:
        """Whether a pair key is in both tables."""
        return bool((are_in(self.first_codes, self.size) & are_in(self.second_codes, self.size)).any())

    def are_in_first(self, rows: Members) -> npt.NDArray[np.bool_]:
        """Return which pair keys some rows of the first table have."""
        return are_in(self.first_codes[rows], self.size)

    def mismatches(self) -> list[str]:
        """Return a line for each way in which the tables do not match: missing rows, and columns with other cells."""
        first, second = self.first, self.second
        of_first, of_second = _last_rows(self.first_codes, self.size), _last_rows(self.second_codes, self.size)
        lines = []
        for one, other, keys, missing in (
            (first, second, self.first_keys, of_first[(of_first >= 0) & (of_second < 0)]),
            (second, first, self.second_keys, of_second[(of_second >= 0) & (of_first < 0)]),
        ):
            if len(missing):
                example = _row_name(min(keys[row] for row in missing.tolist()))
                lines.append(f"{rows_text(len(missing))} of {one.name} not in {other.name}, such as {example}")
        shared = taken(self.first_codes, first_places(self.first_codes, self.size))
        shared = shared[taken(of_second, shared) >= 0]
        of_first, of_second = taken(of_first, shared), taken(of_second, shared)
        is_same_order = len(of_first) == len(of_second) and bool((of_first == of_second).all())
        for column, hashes in first.tally.content_hashes.items():
            others = second.tally.content_hashes.get(column)
            if others is None or (is_same_order and hashes.is_same(others)):
                continue
            ours, theirs = (np.frombuffer(each.stored, dtype=np.int64) for each in (hashes, others))
            differ = np.zeros(len(of_first), dtype=np.bool_)
            for piece in pieces_of(len(of_first)):
                differ[piece] = ours[of_first[piece]] != theirs[of_second[piece]]
            differing = of_first[differ]
            if len(differing):
                lines.append(
                    f"{column!r} differs between {first.name} and {second.name} in {rows_text(len(differing))}, such "
                    f"as {_row_name(self.first_keys[int(differing[0])])}: these rows did not answer the same question"
                )
        return lines


def _codes(first: PairKeys, second: PairKeys) -> tuple[Codes, Codes, int]:
    """Return `row_codes` of two tables; the rows' positions if both have the same keys in the same order."""
    if first.is_same(second) and not has_repeats(first):
        codes = np.arange(len(first), dtype=np.int32)
        return codes, codes, len(codes)
    return row_codes(first, second)


def are_in(codes: Codes, size: int) -> npt.NDArray[np.bool_]:
    """Return which numbers occur.

    Args:
        size: one more than the largest number.
    """
    found = np.zeros(size, dtype=np.bool_)
    for piece in pieces_of(len(codes)):
        found[codes[piece]] = True
    return found


def _are_repeated(codes: Codes, size: int) -> bool:
    return int(np.count_nonzero(are_in(codes, size))) < len(codes)


def _last_rows(codes: Codes, size: int) -> Codes:
    """Return number → the last row that has it; -1 for none."""
    rows = np.full(size, -1, dtype=np.int32)
    for piece in pieces_of(len(codes)):  # of several, the last assignment holds
        rows[codes[piece]] = np.arange(piece.start, piece.stop, dtype=np.int32)
    return rows


def _row_name(pair_key: PairKey) -> str:
    key, variant, epoch = pair_key
    details = [*variant, *([f"epoch {epoch}"] if epoch else [])]
    return f"{key} ({', '.join(details)})" if details else key
