"""Rows by number: equal keys have the same one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchrun.scoring.row_codes import first_places, has_repeats, row_codes


@dataclass(frozen=True)
class Colliding:
    """A key whose first hashes are those of all others."""

    name: str
    hashed: list[int]

    def __hash__(self) -> int:
        self.hashed.append(1)
        return 0 if len(self.hashed) <= 3 else hash(self.name)


def test_equal_keys_have_the_same_number() -> None:
    """Rows of both tables with the same key, and only these, have the same number; numbers have no gaps."""
    first, second, size = row_codes(["a", "b", "a"], ["c", "b", ""])
    assert (first[0] == first[2], first[1] == second[1], size) == (True, True, 4)
    assert sorted({*first.tolist(), *second.tolist()}) == [0, 1, 2, 3]
    assert row_codes([])[2] == 0
    assert (has_repeats(["a", "b", "a"]), has_repeats(["a", "b"])) == (True, False)


def test_keys_with_the_same_hash_stay_apart() -> None:
    """Keys that differ have different numbers even if their hashes are the same: these are computed in another way."""
    hashed: list[int] = []
    keys = [Colliding(name, hashed) for name in "abc"]
    assert row_codes(keys)[2] == 3
    assert len(hashed) == 6


def test_first_places_are_in_order() -> None:
    """Each number that occurs has the place of its first occurrence, in ascending order."""
    assert first_places(np.array([2, 0, 2, 3, 0], dtype=np.int32), 5).tolist() == [0, 1, 3]
