"""Locks by thread: rows that continue the same thread do so one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

__all__ = ["ThreadLocks"]


class ThreadLocks:
    """Locks by name. Each exists while a row holds it or waits for it; first come, first served.

    Mutable state: `_waiting`, by name the lock and the number of rows that hold it or wait for it.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[anyio.Lock, int]] = {}

    @asynccontextmanager
    async def through(self, name: str) -> AsyncIterator[None]:
        """Hold the lock of this name."""
        lock, users = self._waiting.get(name, (anyio.Lock(), 0))
        self._waiting[name] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            users = self._waiting[name][1] - 1
            if users:
                self._waiting[name] = lock, users
            else:
                del self._waiting[name]
