"""Values in a temporary file."""

from __future__ import annotations

import tracemalloc

from batchrun.on_disk.spool import Spool


def test_stored_values_take_no_memory() -> None:
    """Beyond the first megabytes, values and their places are in files; a replaced one is read in its place."""
    spool = Spool()
    for number in range(20_000):
        spool.append((number, "x" * 1_000))
    tracemalloc.start()
    for number in range(20_000):
        spool.append((number, "x" * 1_000))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 200_000
    spool[7], spool[39_998] = (7, "changed"), (19_998, "changed")
    assert (len(spool), spool[39_999][0], spool[7][1]) == (40_000, 19_999, "changed")
    assert [number for number, _ in spool] == [*range(20_000)] * 2
    assert [place for place, (_, text) in enumerate(spool) if text == "changed"] == [7, 39_998]
