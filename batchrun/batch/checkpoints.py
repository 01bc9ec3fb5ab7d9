"""Checkpoints beside a running batch: they bound what a power failure can lose, and the size of the log."""

from __future__ import annotations

import logging
import time
from typing import Protocol

import anyio
import anyio.to_thread

from batchrun.journal.write_ahead_log import LOG_BYTES

__all__ = ["keep_checkpoints"]

CHECKPOINT_EVERY_S = 2.0
CHECKPOINT_LOOKS = 8
"""How often in that time the size of the log is looked at: a large log is moved at once."""


class _Checkpointed(Protocol):
    """A file whose log is moved into it from time to time."""

    @property
    def log_bytes(self) -> int: ...

    def checkpoint(self) -> None: ...

    def reuse_log(self) -> object: ...


async def keep_checkpoints(journal: _Checkpointed) -> None:
    """Bound what a power failure can lose to the last `CHECKPOINT_EVERY_S` seconds, and the log's size.

    Runs until cancelled.
    """
    while True:
        for _ in range(CHECKPOINT_LOOKS):
            await anyio.sleep(CHECKPOINT_EVERY_S / CHECKPOINT_LOOKS)
            if journal.log_bytes > LOG_BYTES:
                break
        began_s = time.monotonic()
        await anyio.to_thread.run_sync(journal.checkpoint)
        moved_s = time.monotonic()
        journal.reuse_log()
        logging.getLogger("batchrun.journal").debug(
            "checkpoint after %.3f s, and %.3f s for the rest", moved_s - began_s, time.monotonic() - moved_s
        )
