"""The log of requests: a record of the logger `batchrun.services` for each request, with its row, status and times."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import anyio
import httpx2

from batchrun.engine.trace import row_at_hand
from batchrun.services.lean_client import LeanHttpClient
from batchrun.wording import visible_line

__all__ = ["LoggingClient", "is_enabled", "mark_sent"]

logger = logging.getLogger("batchrun.services")

_SENT_AT_S = "batchrun_sent_at_s"


def is_enabled() -> bool:
    """Return whether requests are logged. A batch asks once, when it makes its client."""
    return logger.isEnabledFor(logging.DEBUG)


async def mark_sent(request: httpx2.Request) -> None:
    """Note the time at which a request has passed the limits. To be the last hook before it is sent."""
    request.extensions[_SENT_AT_S] = anyio.current_time()


class LoggingClient(LeanHttpClient):
    """The SDK's HTTP client, which logs each request when its reply is there: for a stream, the reply's beginning.

    Only the path of the URL is logged, since a query may hold a key. Text from outside is scrubbed and escaped.
    """

    scrub: Callable[[str], str] = str

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """Send a request and log it."""
        began_s = anyio.current_time()
        try:
            response = await super().send(request, stream=stream, **options)
        except BaseException as exc:
            # The HTTP client has one error for all that can end a connection: its cause says which one it was.
            self._log(request, began_s, f"no reply ({type(exc.__cause__ or exc).__name__})", None)
            raise
        request_id = response.headers.get("x-request-id")
        self._log(request, began_s, str(response.status_code), response.status_code, request_id)
        return response

    def _log(
        self, request: httpx2.Request, began_s: float, result: str, status: int | None, request_id: str | None = None
    ) -> None:
        sent_s, now_s = request.extensions.get(_SENT_AT_S), anyio.current_time()
        wait_s = (now_s if sent_s is None else sent_s) - began_s
        duration_s = 0.0 if sent_s is None else now_s - sent_s
        at_hand = row_at_hand.get()
        who = "batch" if at_hand is None else f"row {at_hand.row}, attempt {at_hand.attempt}"
        path = visible_line(self.scrub(request.url.path))
        named = "" if request_id is None else f" ({visible_line(self.scrub(request_id[:200]))})"
        logger.debug(
            "%s: %s %s: %s after %.3f s%s%s", who, request.method, path, result, duration_s,
            f", waited {wait_s:.3f} s before" if wait_s >= 0.001 else "", named,
            extra={
                "row": None if at_hand is None else at_hand.row,
                "attempt": None if at_hand is None else at_hand.attempt,
                "method": request.method, "path": path, "status": status, "wait_s": round(wait_s, 6),
                "duration_s": round(duration_s, 6), "request_id": request_id,
            },
        )  # fmt: skip
