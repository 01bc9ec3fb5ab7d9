"""Copies of a shard's journal on their way from a worker on another machine to the leader, which gathers them."""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import anyio
from anyio import to_thread

from batchrun.clock import loop_time
from batchrun.errors import OutputError
from batchrun.journal.shard_rows import copy_new

__all__ = ["COPY_S", "MAX_COPY_AGE_S", "JournalCopies", "JournalCopy", "content_of", "write_copy"]

COPY_S: Final = 5.0
"""Seconds between two copies: the rows of so much time are asked again if the machine of a worker is lost."""
MAX_COPY_AGE_S: Final = 60.0
"""Age of the newest copy that the leader has at which a worker stops to send rows."""
NO_COPY: Final = "the leader has no recent copy of the journal"
"""Reason of the cool-down in which a worker waits for the leader."""

Hold: TypeAlias = Callable[[float, str], None]
"""(seconds, reason): lets no row be sent; `Limits.cool_down`."""


@dataclass(frozen=True, slots=True)
class JournalCopy:
    """What is new in the journal of a shard.

    Attributes:
        shard: the number of the shard.
        number: the number of the copy, from 1; the leader confirms it when the copy is gathered.
        content: a journal, compressed.
        is_last: the shard is done.
    """

    shard: int
    number: int
    content: bytes
    is_last: bool


class JournalCopies:
    """The copies of the journal of one shard, made by its worker.

    A copy has what is new since the last one that the leader has confirmed; it is made when that one is confirmed.

    Mutable state: `_number`, of the newest copy; `_last`, its row ids, and `_since`, those of the newest that is
    confirmed; `_made_at_s` and `_state`, loop time and state of the files when the newest copy was begun; `_copied`,
    the state that the leader has; `_current_at_s`, loop time at which the leader had everything; `_confirmed`, set
    when no copy is on its way.
    """

    def __init__(self, shard: int, journal: Path, send: Callable[[JournalCopy], Awaitable[None]], hold: Hold) -> None:
        """
        Args:
            journal: the journal of the shard, which the engine of this worker writes.
            send: sends a copy to the leader.
        """
        self._shard, self._journal, self._send, self._hold = shard, journal, send, hold
        self._number = 0
        self._last = self._since = [0, 0, 0]
        self._made_at_s = self._current_at_s = loop_time()
        self._state = self._copied = _state_of(journal)
        self._confirmed = anyio.Event()
        self._confirmed.set()

    async def keep(self) -> None:
        """Send a copy every few seconds, if there is something new, and hold the rows if the leader confirms none.

        Runs until it is cancelled.

        Raises:
            OutputError: the journal cannot be copied.
        """
        while True:
            await anyio.sleep(COPY_S)
            if self._confirmed.is_set():
                if _state_of(self._journal) == self._copied:
                    self._current_at_s = loop_time()
                else:
                    with anyio.CancelScope(shield=True):  # half a copy would never be confirmed
                        await self._copy(is_last=False)
            if loop_time() - self._current_at_s > MAX_COPY_AGE_S:
                self._hold(2 * COPY_S, NO_COPY)

    async def finish(self) -> None:
        """Send the last copy, when nobody writes the journal any more; return when the leader has confirmed it."""
        await self._confirmed.wait()
        await self._copy(is_last=True)
        await self._confirmed.wait()

    def confirm(self, number: int) -> None:
        """Note that the leader has gathered a copy."""
        if number == self._number:
            self._since, self._copied, self._current_at_s = self._last, self._state, self._made_at_s
            self._confirmed.set()

    async def _copy(self, *, is_last: bool) -> None:
        self._confirmed = anyio.Event()
        self._number += 1
        self._made_at_s, self._state = loop_time(), _state_of(self._journal)
        content, self._last = await to_thread.run_sync(content_of, self._journal, self._since)
        await self._send(JournalCopy(self._shard, self._number, content, is_last))


def content_of(journal: Path, since: Sequence[int] = (0, 0, 0)) -> tuple[bytes, list[int]]:
    """Return a compressed copy of what is new in a journal, and its last row ids: see `copy_new`.

    Raises:
        OutputError: it cannot be made.
    """
    with tempfile.TemporaryDirectory(prefix="copy-", dir=journal.parent) as folder:
        path = Path(folder) / "copy.journal"
        last = copy_new(journal, path, since)
        try:
            return zlib.compress(path.read_bytes(), 1), last
        except OSError as exc:
            raise OutputError(f"{path}: cannot be read ({exc.strerror or exc})") from exc


def _state_of(journal: Path) -> tuple[tuple[int, int], ...]:
    """Return what changes with every write into a journal."""
    found = []
    for path in (journal, journal.with_name(journal.name + "-wal")):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        found.append((stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def write_copy(content: bytes, path: Path) -> None:
    """Write a copy that has arrived in the place of the last one, which has been gathered.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(path.name + ".new")
        descriptor = os.open(new, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(zlib.decompress(content))
        new.replace(path)
    except OSError as exc:
        raise OutputError(f"{path}: cannot write the copy of a journal ({exc.strerror or exc})") from exc
