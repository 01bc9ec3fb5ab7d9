"""Token usage: its sums over several runs."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from batchrun.token_usage import Usage, sum_usage

counts = st.one_of(st.none(), st.integers(0, 10**9))
usages = st.builds(Usage, counts, counts, counts, counts, counts)


@given(st.lists(usages, min_size=1, max_size=6))
def test_usage_of_several_runs(parts: list[Usage]) -> None:
    """Each count is the sum of the known ones, and None, not 0, if none is known."""
    total = sum_usage(parts)
    for name in (field.name for field in dataclasses.fields(Usage) if field.name != "raw"):
        known = [getattr(part, name) for part in parts if getattr(part, name) is not None]
        assert getattr(total, name) == (sum(known) if known else None)


def test_raw_usage_is_kept() -> None:
    """All usage objects of services are kept; a single one stays as it is."""
    first, second = Usage(1, raw={"a": 1}), Usage(2, raw={"b": 2})
    assert sum_usage([first]).raw == {"a": 1}
    assert sum_usage([first, Usage()]).raw == {"a": 1}
    assert sum_usage([first, second]).raw == {"runs": [{"a": 1}, {"b": 2}]}


def test_no_runs_used_nothing() -> None:
    """A row without a run has unknown usage."""
    assert sum_usage([]) == Usage()
