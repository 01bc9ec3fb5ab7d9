"""The events of one segment of a run, written once and read by any number of streams.

A log is a list of frames that only grows. Each reader keeps its own position, so a client that connects late, or
again, reads the same frames as the first one, and a slow client does not delay any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from batchrun.server.errors import ApiError

__all__ = ["EventLog"]


class EventLog:
    """Frames of one segment of a run: from its creation or a submission to its end or the next required action.

    Mutable state: `frames` (grows); `closed` and `done` (set once); `result` and `failure`; `_changed`, the event that
    readers wait for.

    Attributes:
        stream: id of the run, response, completion or search.
        segment: 0 at first, and one more for each submission of tool outputs.
        closed: no more frames follow.
        done: the segment is complete; False if the server stopped before its end.
        single: the log belongs to one request, whose HTTP status depends on the first frame or the failure.
        result: JSON text of the complete reply, for clients that wait for it; None until it is known.
        failure: the error that a client gets instead of `result`; None without one.
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
        """Append frames and wake the readers."""
        self.frames.extend(frames)
        self.wake()

    def close(self, *, done: bool = True) -> None:
        """End the log and wake the readers."""
        self.closed = True
        self.done = done
        self.wake()

    def wake(self) -> None:
        """Wake every waiting reader, to read a new frame or to send a keep-alive comment."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def changed(self) -> None:
        """Wait for the next frame, the end, or a call of `wake`."""
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()
