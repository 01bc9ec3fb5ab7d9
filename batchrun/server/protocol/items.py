"""Items of Responses and Conversations, in the form that is stored and in the form that a responder reads."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from batchrun.server.errors import ApiError
from batchrun.server.protocol.ids import new_id
from batchrun.server.responders.base import Message, ToolCall, ToolOutput

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from batchrun.server.protocol.bodies import Body

__all__ = ["check_calls", "function_call_item", "item_body", "item_messages", "message_item", "text_part"]


def text_part(text: str) -> Body:
    """Return the content part for the text of an answer."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def refusal_part(text: str) -> Body:
    """Return the content part for a refusal."""
    return {"type": "refusal", "refusal": text}


def message_item(item_id: str, status: str, parts: list[Body]) -> Body:
    """Return a message of the model."""
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": parts}


def function_call_item(item_id: str, status: str, call: ToolCall, arguments: str) -> Body:
    """Return a function call of the model."""
    return {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": arguments,
    }


def item_body(item: Any) -> Body:
    """Return an input item in the form that is stored and returned: with id, type and status, its content as parts."""
    if item.type == "message":
        return {
            "id": new_id("msg_"),
            "type": "message",
            "status": "completed",
            "role": item.role,
            "content": _parts(item),
        }
    if item.type == "function_call":
        call = ToolCall(item.call_id, item.name, item.arguments)
        return function_call_item(new_id("fc_"), "completed", call, item.arguments)
    output = item.output if isinstance(item.output, str) else [part.model_dump() for part in item.output]
    return {
        "id": new_id("fc_"),
        "type": "function_call_output",
        "status": "completed",
        "call_id": item.call_id,
        "output": output,
    }


def _parts(item: Any) -> list[Body]:
    if isinstance(item.content, str):
        if item.role == "assistant":
            return [text_part(item.content)]
        return [{"type": "input_text", "text": item.content}]
    parts: list[Body] = []
    for part in item.content:
        if part.type == "output_text":
            parts.append(text_part(part.text))
        elif part.type == "input_image":
            parts.append(
                {
                    "type": "input_image",
                    "image_url": part.image_url,
                    "file_id": part.file_id,
                    "detail": part.detail or "auto",
                }
            )
        else:
            parts.append(part.model_dump())
    return parts


def check_calls(items: Iterable[Body]) -> None:
    """Check that every function call has an output and every output a call.

    Raises:
        ApiError: 400 with the hosted API's text; such a conversation cannot continue.
    """
    called: list[str] = []
    answered: set[str] = set()
    for item in items:
        if item["type"] == "function_call" and item["status"] == "completed":
            called.append(item["call_id"])
        elif item["type"] == "function_call_output":
            if item["call_id"] not in called:
                raise ApiError(
                    400,
                    f"No tool call found for function call output with call_id {item['call_id']}.",
                    param="input",
                )
            answered.add(item["call_id"])
    for call_id in called:
        if call_id not in answered:
            raise ApiError(400, f"No tool output found for function call {call_id}.", param="input")


def item_messages(items: Sequence[Body], files: Mapping[str, str] | None = None) -> list[Message]:
    """Return items as a responder reads them: calls join the preceding assistant message, outputs follow as `tool`.

    Args:
        files: file id → its content for the responder: the URL of an image, the text of any other file.
    """
    messages: list[Message] = []
    for item in items:
        last = messages[-1] if messages else None
        if item["type"] == "message":
            messages.append(_message(item, files or {}))
        elif item["type"] == "function_call" and item["status"] != "completed":
            continue  # it was cut off, and is not made
        elif item["type"] == "function_call":
            call = ToolCall(item["call_id"], item["name"], item["arguments"])
            if last is not None and last.role == "assistant":
                messages[-1] = dataclasses.replace(last, tool_calls=(*last.tool_calls, call))
            else:
                messages.append(Message("assistant", "", tool_calls=(call,)))
        else:
            output = item["output"]
            text = output if isinstance(output, str) else "\n".join(part["text"] for part in output)
            tool_output = ToolOutput(item["call_id"], text)
            if last is not None and last.role == "tool":
                messages[-1] = dataclasses.replace(last, tool_outputs=(*last.tool_outputs, tool_output))
            else:
                messages.append(Message("tool", "", tool_outputs=(tool_output,)))
    return messages


def _message(item: Body, files: Mapping[str, str]) -> Message:
    parts = [_read_part(part, files) for part in item["content"]]
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    return Message(item["role"], text, content=parts if any(part["type"] == "image_url" for part in parts) else None)


def _read_part(part: Body, files: Mapping[str, str]) -> Body:
    """Return a part in the form of Chat Completions; a deleted file is replaced by a note with its id."""
    file_id = part.get("file_id")
    if part["type"] == "input_image":
        url = part["image_url"] or files.get(file_id or "")
        if url is not None:
            return {"type": "image_url", "image_url": {"url": url, "detail": part["detail"]}}
    elif part["type"] != "input_file":
        return {"type": "text", "text": part.get("text") or part.get("refusal") or ""}
    return {"type": "text", "text": files.get(file_id or "", f"[{file_id or 'a file'} is gone]")}
