"""The operation /chat/completions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from batchrun.server.errors import bad_value
from batchrun.server.execution.chats import LiveChat
from batchrun.server.execution.kept_replies import add_kept_reply
from batchrun.server.http.endpoint import operation
from batchrun.server.http.routes.resources import refuse_other_choice, refuse_other_tools
from batchrun.server.http.routes.stored_chats import stored_messages
from batchrun.server.protocol.bodies import Body
from batchrun.server.protocol.ids import new_id
from batchrun.server.protocol.requests.chat import ChatMessage, CreateChatCompletion
from batchrun.server.protocol.requests.neutral import change_refusal
from batchrun.server.protocol.tool_choices import chosen
from batchrun.server.replies.event_log import EventLog
from batchrun.server.replies.replies import HttpReply, Stream, Waiting
from batchrun.server.responders.base import Conversation, Message, ToolCall, ToolOutput, answering_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchrun.server.http.endpoint import Call

__all__ = ["OPERATIONS"]

_PASSED_THROUGH = (
    "temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "stop", "logit_bias",
    "reasoning_effort", "verbosity", "user", "service_tier", "prompt_cache_key", "safety_identifier", "prediction",
    "prompt_cache_retention", "prompt_cache_options", "web_search_options",
)  # fmt: skip


def create_chat_completion(call: Call, request: CreateChatCompletion) -> HttpReply:
    if request.stream_options is not None and not request.stream:
        raise bad_value("stream_options", "The 'stream_options' parameter is only allowed when 'stream' is enabled.")
    refusal = change_refusal(request, call.parts.responder.name)
    if refusal is not None:
        raise refusal
    log = EventLog(new_id("chatcmpl-"), 0)
    log.single = True
    if call.keyed:
        add_kept_reply(call.parts, call.owner, log)
    refuse_other_tools(call, request.tools)
    functions = [tool.model_dump(exclude_none=True) for tool in request.tools or () if tool.type == "function"]
    choice = request.tool_choice
    named = choice if choice is None or isinstance(choice, str) else choice.model_dump()
    refuse_other_choice(call, named, functions)
    options = request.stream_options
    conversation = _conversation(request, *chosen(named, functions))
    chat = LiveChat(
        log,
        call.owner,
        conversation,
        model=answering_model(call.parts.responder, conversation.model),
        created=call.parts.now(),
        is_stream=bool(request.stream),
        has_usage=bool(options and options.include_usage),
        is_kept=call.keyed,
        stored_messages=stored_messages(log.stream, request.messages) if request.store else None,
        is_charged=not call.is_line,
    )
    call.after.append(partial(call.core.chats.start, chat))
    if request.stream:
        return Stream(log=log, tail=b"data: [DONE]\n\n")
    return Waiting(log=log)


def _conversation(request: CreateChatCompletion, choice: str | Body, functions: Sequence[Body]) -> Conversation:
    leading = [message for message in request.messages if message.role in ("system", "developer")]
    instructions = "\n".join(_text(message) for message in leading)
    parameters: Body = {name: getattr(request, name) for name in _PASSED_THROUGH if getattr(request, name) is not None}
    parameters |= request.model_extra or {}  # an upstream service may know them
    response_format = request.response_format
    return Conversation(
        model=request.model,
        instructions=instructions,
        messages=tuple(_messages(request)),
        tools=functions,
        tool_choice=choice,
        parallel_tool_calls=True if request.parallel_tool_calls is None else request.parallel_tool_calls,
        response_format=(
            None
            if response_format is None or response_format.type == "text"
            else response_format.model_dump(by_alias=True, exclude_none=True)
        ),
        max_completion_tokens=request.max_completion_tokens or request.max_tokens,
        parameters=parameters,
        metadata=request.metadata or {},
    )


def _messages(request: CreateChatCompletion) -> list[Message]:
    """Return all messages except those of the system, which are the instructions.

    Raises:
        ApiError: 400: tool calls and their outputs do not match.
    """
    messages: list[Message] = []
    open_calls: set[str] = set()
    for index, message in enumerate(request.messages):
        if message.role == "tool":
            if message.tool_call_id is None or message.tool_call_id not in open_calls:
                raise bad_value(
                    f"messages[{index}].role",
                    "messages with role 'tool' must be a response to a preceding message with 'tool_calls'.",
                )
            open_calls.discard(message.tool_call_id)
            messages.append(Message("tool", "", tool_outputs=(ToolOutput(message.tool_call_id, _text(message)),)))
            continue
        if open_calls:
            missing = ", ".join(sorted(open_calls))
            raise bad_value(
                f"messages[{index}].role",
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                f"'tool_call_id'. The following tool_call_ids did not have response messages: {missing}",
            )
        calls = tuple(
            ToolCall(each.id, each.function.name, each.function.arguments) for each in message.tool_calls or ()
        )
        open_calls = {each.id for each in calls}
        if message.role not in ("system", "developer"):
            messages.append(Message(message.role, _text(message), content=_content(message), tool_calls=calls))
    return messages


def _text(message: ChatMessage) -> str:
    if message.content is None or isinstance(message.content, str):
        return message.content or message.refusal or ""
    return "\n".join(
        part.text if part.type == "text" else part.refusal
        for part in message.content
        if part.type in ("text", "refusal")
    )


def _content(message: ChatMessage) -> list[Body] | None:
    if not isinstance(message.content, list) or all(part.type == "text" for part in message.content):
        return None
    return [part.model_dump(exclude_none=True) for part in message.content]


OPERATIONS = (operation("POST", "/chat/completions", create_chat_completion, CreateChatCompletion, beta=False),)
