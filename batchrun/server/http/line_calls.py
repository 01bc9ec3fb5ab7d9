"""The requests of service batches: the lines of an input file, sent to the operations that serve clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchrun.server.errors import ApiError, bad_value
from batchrun.server.http.endpoint import Call
from batchrun.server.http.routes.chat import create_chat_completion
from batchrun.server.http.routes.responses import create_response
from batchrun.server.protocol.requests.base import validate
from batchrun.server.protocol.requests.chat import CreateChatCompletion
from batchrun.server.protocol.requests.items import CreateResponse
from batchrun.server.replies.replies import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchrun.server.execution.core import Core
    from batchrun.server.protocol.bodies import Body
    from batchrun.server.replies.event_log import EventLog

__all__ = ["LineCalls"]

_OPERATIONS: dict[str, tuple[Callable[..., Any], type[CreateResponse] | type[CreateChatCompletion]]] = {
    "/v1/responses": (create_response, CreateResponse),
    "/v1/chat/completions": (create_chat_completion, CreateChatCompletion),
}
_UNSUPPORTED = ("stream", "background")


class LineCalls:
    """Begins the requests of lines. See `batchrun.server.execution.service_batches.LineExecution`."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def begin(self, owner: str, endpoint: str, body: Body, on_begun: Callable[[str], None]) -> EventLog:
        """Begin a request as if a client had sent it, and return the log that will hold its reply.

        Args:
            on_begun: called with the id of the response, in the transaction that creates it; not for completions.

        Raises:
            ApiError: the request is refused.
        """
        core = self._core
        function, model = _OPERATIONS[endpoint]
        request = validate(model, body)
        for name in _UNSUPPORTED:
            if getattr(request, name, None):
                raise bad_value(name, f"'{name}' is not supported in the Batch API.", "unsupported_parameter")
        fault = core.faults.draw(request)
        if fault is not None and core.faults.refuse(fault) is not None:
            raise ApiError(502, "502 Bad Gateway", type="server_error")
        call = Call(core, owner, {}, {}, is_line=True)
        with core.parts.database.transaction():
            reply = function(call, request)
            assert isinstance(reply, Waiting)
            assert reply.log is not None
            if model is CreateResponse:  # a completion is stored nowhere, so a restarted server has nothing to look up
                on_begun(reply.log.stream)
        for action in call.after:
            action()
        return reply.log

    def forget(self, reply_id: str) -> None:
        """Stop a request that was begun, and remove what it stored."""
        core = self._core
        core.chats.forget(reply_id)
        core.responses.forget(reply_id)
        with core.parts.database.transaction():
            core.parts.objects.remove(reply_id)
