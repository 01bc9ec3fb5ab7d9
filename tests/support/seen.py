"""What a service tells of ids, and when."""

from __future__ import annotations

from tests.support.scripted_http import ScriptedHttp

__all__ = ["Seen"]


class Seen:
    """The ids, and how many requests had arrived when they were seen.

    Attributes:
        ids: (thread_id, run_id), in the order of the calls.
        requests: requests that the server had by then.
        with_reply: whether they came with the whole reply.
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
