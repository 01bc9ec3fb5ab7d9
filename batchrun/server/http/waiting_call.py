"""The way from a request that needs other work first to its reply."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from batchrun.server.execution.kept_replies import add_kept_reply
from batchrun.server.execution.waiting_calls import LiveWaitingCall
from batchrun.server.protocol.ids import new_id
from batchrun.server.replies.event_log import EventLog
from batchrun.server.replies.replies import Waiting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from batchrun.server.http.endpoint import Call

__all__ = ["waiting_reply"]


def waiting_reply(call: Call, answer: Callable[[], Awaitable[str]]) -> Waiting:
    """Return the reply that `answer` gives, after the commit, as JSON text."""
    log = EventLog(new_id("req_"), 0)
    if call.keyed:
        add_kept_reply(call.parts, call.owner, log)
    live = LiveWaitingCall(log, call.owner, answer, is_kept=call.keyed)
    call.after.append(partial(call.core.waiting_calls.start, live))
    return Waiting(log=log)
