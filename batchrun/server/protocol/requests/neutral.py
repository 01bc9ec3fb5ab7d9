"""Parameters of the hosted API that this server can't apply: their neutral values are accepted, the others refused.

A parameter that is only a hint about cost, caching or safety changes no answer and has any value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchrun.server.errors import bad_value
from batchrun.server.protocol.requests.chat import CreateChatCompletion
from batchrun.server.protocol.requests.items import CodeTool, CreateResponse, SearchTool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from batchrun.server.errors import ApiError

__all__ = ["change_refusal"]

_CHAT: Mapping[str, Sequence[Any]] = {
    "logprobs": (False,),
    "top_logprobs": (0,),
    "modalities": (["text"],),
    "audio": (),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "moderation": (),
    "web_search_options": (),
}
"""Parameter → its neutral values, besides null."""

_RESPONSES: Mapping[str, Sequence[Any]] = {
    "top_logprobs": (0,),
    "prompt": (),
    "context_management": ([],),
    "moderation": (),
}
_PASSED_ON = frozenset({"web_search_options"})
"""Parameters that an upstream endpoint applies: the answer comes with what they change."""


def change_refusal(request: CreateChatCompletion | CreateResponse, responder: str) -> ApiError | None:
    """Return the 400 for the first parameter that would have to change the answer; None if there is none.

    A script takes every value: it rehearses requests to a service that can apply them.

    Args:
        responder: name of the responder.
    """
    if responder == "script":
        return None
    for name, value, neutral in _given(request):
        if value is None or value in neutral or (responder == "upstream" and name in _PASSED_ON):
            continue
        supported = ", ".join(repr(each).lower() if each is False else repr(each) for each in (*neutral, "null"))
        return bad_value(
            name,
            f"Invalid value for '{name}': this server can't apply it, and it would have to change the answer. "
            f"Supported values are: {supported}.".replace("'null'", "null"),
        )
    return None


def _given(request: CreateChatCompletion | CreateResponse) -> Iterator[tuple[str, Any, Sequence[Any]]]:
    """Yield (path, value, neutral values) of the parameters that this server can't apply."""
    if isinstance(request, CreateChatCompletion):
        for name, neutral in _CHAT.items():
            yield name, getattr(request, name), neutral
        return
    for name, neutral in _RESPONSES.items():
        yield name, getattr(request, name), neutral
    if "message.output_text.logprobs" in (request.include or ()):
        yield "include", "message.output_text.logprobs", ()
    for index, tool in enumerate(request.tools or ()):
        if isinstance(tool, SearchTool | CodeTool):
            yield f"tools[{index}].allowed_callers", tool.allowed_callers, (["direct"],)
        if isinstance(tool, SearchTool) and tool.ranking_options is not None:
            yield f"tools[{index}].ranking_options.hybrid_search", tool.ranking_options.hybrid_search, ()
        if isinstance(tool, CodeTool) and tool.container is not None and not isinstance(tool.container, str):
            policy = tool.container.network_policy
            yield f"tools[{index}].container.network_policy", policy, ({"type": "disabled"},)
