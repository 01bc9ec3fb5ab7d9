"""A record of the ids that a service reports."""

from __future__ import annotations

from tests.support.scripted_http import ScriptedHttp

__all__ = ["Seen"]


class Seen:
    """Reported ids, and the number of requests that the server had received by then.

    Mutable state: the three lists, one item per report.

    Attributes:
        ids: (thread_id, run_id).
        requests: number of requests received by then.
        with_reply: whether the ids came with the whole reply.
    """

    def __init__(self, server: ScriptedHttp) -> None:
        self._server = server
        self.ids: list[tuple[str | None, str | None]] = []
        self.requests: list[int] = []
        self.with_reply: list[bool] = []

    def __call__(self, thread_id: str | None, run_id: str | None, *, with_reply: bool = False) -> None:
        self.ids.append((thread_id, run_id))
        self.requests.append(len(self._server.requests))
        self.with_reply.append(with_reply)
