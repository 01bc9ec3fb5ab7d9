"""The events of one stretch of a run, written once and read by any number of streams.

A log is a list of frames that only grows. A reader keeps its own position, so a client that comes late,
or comes back, reads the same frames as the first one, and a slow client holds up nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from batchrun.server.errors import ApiError

__all__ = ["EventLog"]


class EventLog:
    """Frames of one segment of a run: from a create or a submission to the end or the next action required.

    Mutable state: `frames` (grows), `closed` and `done` (set once), `_changed` (what readers wait on).

    Attributes:
        stream: id of the run (or response) that the events are of.
        segment: 0, and one more for each submission of tool outputs.
        closed: no frame will follow.
        done: the segment ended as it should; False where the server stopped in the middle.
        single: the log is of one request, whose HTTP status is decided by its first frame or its failure.
        result: JSON text of what it came to, for clients that wait for the whole.
        failure: why there is no result.
    """

    def __init__(self, stream: str, segment: int, frames: list[bytes] | None = None) -> None:
        self.stream = stream
        self.segment = segment
        self.frames: list[bytes] = frames if frames is not None else []
        self.closed = False
        self.done = False
        self.single = False
        self.result: str | None = None
        self.failure: ApiError | None = None
        self._changed: anyio.Event | None = None

    def __repr__(self) -> str:
        state = "done" if self.done else "closed" if self.closed else "open"
        return f"<EventLog {self.stream}/{self.segment} {state} frames={len(self.frames)}>"

    def append(self, *frames: bytes) -> None:
        """Add frames and wake the readers."""
        self.frames.extend(frames)
        self.wake()

    def close(self, *, done: bool = True) -> None:
        """End the log and wake the readers."""
        self.closed = True
        self.done = done
        self.wake()

    def wake(self) -> None:
        """Let every waiting reader look again, for a new frame or to say that it is still there."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def changed(self) -> None:
        """Wait for the next frame, the end or a wake."""
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()
