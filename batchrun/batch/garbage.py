"""Garbage collection beside a running batch."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["lazy_garbage_collector"]


@contextmanager
def lazy_garbage_collector() -> Iterator[None]:
    """Collect garbage less often, and skip what exists already.

    Reference counts free most of a row. To scan the imported libraries again and again would take as long as the
    journal does.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
