"""The conversation that a responder reads, made from a stored thread."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from batchrun.server.protocol.token_counts import count_message, count_prompt
from batchrun.server.responders.base import HOSTED_FUNCTIONS, Conversation, Message, ToolCall, ToolOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from batchrun.server.protocol.bodies import Body, MessageBody, RunBody, StepBody
    from batchrun.server.store.hidden import StepHidden

__all__ = ["chat_message", "run_conversation", "truncated"]


def run_conversation(
    run: RunBody,
    messages: Sequence[MessageBody],
    steps: Sequence[tuple[StepBody, StepHidden]],
    tools: Sequence[Body],
    *,
    completion_left: int | None,
    parameters: Mapping[str, Any],
    image_url: Callable[[str], str | None],
) -> Conversation:
    """Return the conversation for the run's next answer.

    Args:
        messages: the thread's messages, oldest first.
        steps: (step, hidden) of this run, oldest first.
        tools: function tools to offer; hosted tools have this form already.
        completion_left: completion tokens that the run may still use; None for any number.
        parameters: further model parameters.
        image_url: returns a `data:` URL for an image file, None if the file was deleted.
    """
    own = {message["id"]: message for message in messages if message["run_id"] == run["id"]}
    history = [chat_message(message, image_url) for message in messages if message["id"] not in own]
    strategy = run["truncation_strategy"]
    if strategy["type"] == "last_messages" and strategy["last_messages"] is not None:
        history = history[-strategy["last_messages"] :]
    written = _written(own, steps, image_url)
    # A forced choice applies to the first answer only; otherwise a run could never end with a message.
    choice = run["tool_choice"] if not written else ("none" if run["tool_choice"] == "none" else "auto")
    return Conversation(
        model=run["model"],
        instructions=run["instructions"],
        messages=(*history, *written),
        tools=tools,
        tool_choice=_choice(choice),
        parallel_tool_calls=run["parallel_tool_calls"],
        response_format=run["response_format"] if isinstance(run["response_format"], dict) else None,
        max_completion_tokens=completion_left,
        parameters={"temperature": run["temperature"], "top_p": run["top_p"], **parameters},
        metadata=run["metadata"],
    )


def _choice(choice: Any) -> Any:
    if isinstance(choice, dict) and choice["type"] in HOSTED_FUNCTIONS:
        return {"type": "function", "function": {"name": HOSTED_FUNCTIONS[choice["type"]]}}
    return choice


def chat_message(message: MessageBody, image_url: Callable[[str], str | None]) -> Message:
    """Return a stored message as a responder reads it: joined text; images as content parts of Chat Completions."""
    parts = message["content"]
    text = "\n".join(_part_text(part) for part in parts if part["type"] in _TEXT_TYPES)
    if all(part["type"] in _TEXT_TYPES for part in parts):
        return Message(role=message["role"], text=text)
    content: list[Body] = []
    for part in parts:
        if part["type"] in _TEXT_TYPES:
            content.append({"type": "text", "text": _part_text(part)})
        elif part["type"] == "image_url":
            content.append(part)
        else:
            url = image_url(part["image_file"]["file_id"])
            if url is not None:
                image = {"url": url, "detail": part["image_file"]["detail"]}
                content.append({"type": "image_url", "image_url": image})
    return Message(role=message["role"], text=text, content=content)


_TEXT_TYPES = frozenset({"text", "refusal"})


def _part_text(part: Body) -> str:
    text: str = part["text"]["value"] if part["type"] == "text" else part["refusal"]
    return text


def _written(
    own: dict[str, MessageBody], steps: Sequence[tuple[StepBody, StepHidden]], image_url: Callable[[str], str | None]
) -> list[Message]:
    """Return what this run has written so far: its messages, its calls and their outputs."""
    written: list[Message] = []
    for step, hidden in steps:
        details = step["step_details"]
        if step["status"] != "completed":
            continue
        if details["type"] == "message_creation":
            message = own.get(details["message_creation"]["message_id"])
            if message is not None:
                written.append(chat_message(message, image_url))
            continue
        calls, outputs = _calls(details["tool_calls"], hidden)
        if written and written[-1].role == "assistant" and not written[-1].tool_calls:
            written[-1] = dataclasses.replace(written[-1], tool_calls=calls)
        else:
            written.append(Message(role="assistant", text="", tool_calls=calls))
        written.append(Message(role="tool", text="", tool_outputs=outputs))
    return written


def _calls(bodies: Sequence[Body], hidden: StepHidden) -> tuple[tuple[ToolCall, ...], tuple[ToolOutput, ...]]:
    """Return the calls and outputs of a tool step. Those of hosted tools are in the step's hidden part."""
    kept = hidden.get("calls", {})
    calls, outputs = [], []
    for body in bodies:
        call_id = body["id"]
        if body["type"] == "function":
            function = body["function"]
            calls.append(ToolCall(call_id, function["name"], function["arguments"]))
            outputs.append(ToolOutput(call_id, function["output"] or ""))
        else:
            calls.append(ToolCall(call_id, HOSTED_FUNCTIONS[body["type"]], kept[call_id]["arguments"]))
            outputs.append(ToolOutput(call_id, kept[call_id]["output"]))
    return tuple(calls), tuple(outputs)


def truncated(conversation: Conversation, max_prompt_tokens: int) -> Conversation | None:
    """Return the conversation with messages dropped from its middle until it fits; None if it cannot fit.

    The first message is kept, and so is everything from the last user message on.
    """
    messages = list(conversation.messages)
    last_user = max((i for i, message in enumerate(messages) if message.role == "user"), default=0)
    excess = count_prompt(conversation) - max_prompt_tokens
    dropped: set[int] = set()
    for index in range(1, last_user):
        if excess <= 0:
            break
        excess -= count_message(messages[index])
        dropped.add(index)
    if excess > 0:
        return None
    kept = tuple(message for i, message in enumerate(messages) if i not in dropped)
    return dataclasses.replace(conversation, messages=kept)
