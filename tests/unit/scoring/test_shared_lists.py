"""Lists of texts and hashes, which share the memory of equal ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from batchrun.scoring.shared_lists import Hashes, Texts


def test_texts_come_back() -> None:
    """Texts of any characters, also half a surrogate pair and the empty text, come back in loops, slices and parts."""
    given = ["q1", "", "ключ", "\ud800", "\0"]
    texts = Texts(given)
    assert list(texts) == given
    assert (texts[-1], list(texts[1:3]), list(texts.part([3, 0]))) == ("\0", ["", "ключ"], ["\ud800", "q1"])
    with pytest.raises(IndexError):
        texts[5]


@pytest.mark.parametrize(("make", "given", "other"), [(Texts, ["a", "", "c"], "d"), (Hashes, [1, -2, 3], 4)])
def test_equal_lists_share_memory(make: Callable[..., Any], given: Sequence[Any], other: Any) -> None:
    """A list shares the memory of another one until an entry differs or one has more; the other one never changes."""
    first = make(given)
    assert make(given, like=first).is_same(first)
    for own in ([], given[:2], [given[0], other], [*given, other], [given[0], other, *given]):
        second = make(own, like=first)
        assert (list(second), second.is_same(first), list(first)) == (own, False, list(given))
        assert list(second[1:]) == own[1:]
    assert list(Hashes([1], like=Hashes([1, 2])).stored) == [1]
