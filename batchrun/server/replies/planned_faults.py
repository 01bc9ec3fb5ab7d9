"""Planned faults of HTTP requests: those of `--faults`, and those of the Batch API from a script."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from batchrun.server.errors import ApiError
from batchrun.server.protocol.requests.chat import CreateChatCompletion
from batchrun.server.protocol.requests.items import CreateResponse
from batchrun.server.protocol.requests.runs import RunOptions
from batchrun.server.replies.replies import Binary, HttpReply

if TYPE_CHECKING:
    from starlette.types import Message, Send

    from batchrun.server.responders.batch_faults import RequestFault
    from batchrun.server.responders.fault_injection import Fault, FaultPlan

__all__ = ["Dropped", "PlannedFaults", "refused_request"]

_DELTAS = (b"event: thread.message.delta\n", b"event: response.output_text.delta\n", b'"delta":{"content":"')


class PlannedFaults:
    """Draws the faults of requests that create runs, responses or completions.

    Mutable state: the number of these requests, and the number of faults of each row and attempt that had one.
    """

    def __init__(self, plan: FaultPlan | None) -> None:
        self._plan = plan
        self._numbers = itertools.count()
        self._hits: Counter[tuple[str, str]] = Counter()

    def draw(self, body: Any) -> Fault | None:
        """Return the fault of this request, or None."""
        if self._plan is None or not isinstance(body, RunOptions | CreateResponse | CreateChatCompletion):
            return None
        metadata = body.metadata or {}
        occasion = self._plan.occasion(metadata)
        hits = self._hits[occasion] if occasion is not None and occasion in self._hits else 0
        fault = self._plan.draw_http(metadata, next(self._numbers), hits)
        if fault is not None and occasion is not None:
            self._hits[occasion] += 1
        return fault

    def refuse(self, fault: Fault) -> HttpReply | None:
        """Return the reply of a fault that prevents the work; None for a fault that does not.

        Raises:
            ApiError: the planned 429 or 500.
        """
        if fault.kind == "http_429":
            headers = {} if fault.retry_after_s is None else {"retry-after": f"{fault.retry_after_s:g}"}
            raise ApiError(429, fault.message, type="requests", code="rate_limit_exceeded", headers=headers)
        if fault.kind == "http_500":
            raise ApiError(500, fault.message, type="server_error")
        if fault.kind == "html":
            return _page(502)
        return None


def refused_request(fault: RequestFault) -> HttpReply | None:
    """Return the reply of a planned fault of the Batch API; None if only its reply is lost.

    Raises:
        ApiError: the planned refusal.
    """
    if fault.status is None:
        return None
    if fault.html:
        return _page(fault.status)
    headers = {} if fault.retry_after_s is None else {"retry-after": f"{fault.retry_after_s:g}"}
    kind = "server_error" if fault.status >= 500 else "invalid_request_error"
    raise ApiError(fault.status, fault.message, type=kind, code=fault.code, headers=headers)


def _page(status: int) -> Binary:
    """Return an error page, as from a proxy."""
    phrase = next((each.phrase for each in HTTPStatus if each == status), "Error")
    title = f"{status} {phrase}"
    page = f"<html><head><title>{title}</title></head><body>{title}</body></html>"
    return Binary(status=status, data=page.encode(), content_type="text/html")


@dataclass(slots=True)
class Dropped(HttpReply):
    """Another reply that breaks off: a stream after `after_deltas` pieces of text, any other reply in its middle.

    The server then closes the connection, as it does for every incomplete reply.
    """

    reply: HttpReply | None = None
    after_deltas: int = 0

    async def send(self, send: Send) -> None:
        assert self.reply is not None
        left = self.after_deltas
        broken = False

        async def cut(message: Message) -> None:
            nonlocal left, broken
            if broken:
                return
            if message["type"] != "http.response.body":
                await send(message)
                return
            body = message["body"]
            end, left = _cut_position(body, left)
            is_complete = message.get("more_body", False) and end is None
            if not is_complete:
                broken = True
                body = body[: len(body) // 2 if end is None else end]
            await send({"type": "http.response.body", "body": body, "more_body": True})

        self.reply.headers |= self.headers
        await self.reply.send(cut)


def _cut_position(body: bytes, left: int) -> tuple[int | None, int]:
    """Return where the first piece to drop begins, None if it is not in `body`, and how many pieces may still pass."""
    for frame_start in _frame_starts(body):
        frame = body[frame_start : frame_start + 400]
        if any(mark in frame.split(b"\n\n")[0] + b"\n" for mark in _DELTAS):
            if left == 0:
                return frame_start, 0
            left -= 1
    return None, left


def _frame_starts(body: bytes) -> list[int]:
    starts, position = [], 0
    while position < len(body):
        starts.append(position)
        following = body.find(b"\n\n", position)
        if following < 0:
            break
        position = following + 2
    return starts
