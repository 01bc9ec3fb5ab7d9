"""A service that enforces a limit to the millisecond: it refuses whatever exceeds it in any 60 s."""

from __future__ import annotations

import threading
import time
from collections import deque

from tests.support.chat import chat_reply
from tests.support.scripted_http import Answer, Request, json_answer

__all__ = ["StrictRate"]

MINUTE_S = 60.0


class StrictRate:
    """Answers of a Chat Completions service with a sliding window, for `ScriptedHttp`.

    Mutable state: `accepted_at_s`, when each request arrived that was answered; `refused`, the number of the others; the
    requests of the last minute.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self.accepted_at_s: list[float] = []
        self.refused = 0
        self._last: deque[float] = deque()
        self._lock = threading.Lock()

    def __call__(self, _: Request) -> Answer:
        with self._lock:
            now_s = time.monotonic()
            while self._last and self._last[0] <= now_s - MINUTE_S:
                self._last.popleft()
            if len(self._last) >= self._per_minute:
                self.refused += 1
                return json_answer({"error": {"message": "Too many requests.", "type": "rate_limit_exceeded"}}, 429)
            self._last.append(now_s)
            self.accepted_at_s.append(now_s)
        return json_answer(chat_reply("yes"))

    def used(self, from_s: float, until_s: float) -> int:
        """Return the requests that were answered in a period, in seconds after the first one."""
        return sum(from_s <= at_s - self.accepted_at_s[0] < until_s for at_s in self.accepted_at_s)
