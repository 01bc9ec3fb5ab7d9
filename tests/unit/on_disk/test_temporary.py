"""Temporary files that cannot be written."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from batchrun.errors import OutputError
from batchrun.on_disk.key_places import KeyPlaces
from batchrun.on_disk.numbers import StoredNumbers
from batchrun.on_disk.spool import Spool


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may grow beyond 100,000 bytes, as if the disk were full."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def fill(values: Spool | KeyPlaces | StoredNumbers) -> None:
    """Add more than fits."""
    for number in range(200_000):
        if isinstance(values, StoredNumbers):
            values.append(number)
        else:
            values.append(f"{number:0200}")


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("make", [Spool, KeyPlaces, partial(StoredNumbers, 1)])
def test_a_full_disk_is_one_line(make: Callable[[], Spool | KeyPlaces | StoredNumbers]) -> None:
    """The error names the folder of temporary files and what to do."""
    with pytest.raises(OutputError, match=r": a temporary file cannot be written: .*; make space, or set TMPDIR to"):
        fill(make())
