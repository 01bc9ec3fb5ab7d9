"""Items of Responses and Conversations, in the form that is stored and in the form that a responder reads."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from batchrun.server.errors import ApiError
from batchrun.server.protocol.ids import new_id
from batchrun.server.responders.base import Message, ToolCall, ToolOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from batchrun.server.protocol.bodies import Body
    from batchrun.server.protocol.ids import Prefix

__all__ = [
    "check_calls",
    "content_parts",
    "file_key",
    "function_call_item",
    "item_body",
    "item_messages",
    "message_item",
    "prefix_of",
    "text_part",
]


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


_PREFIXES: Mapping[str, Prefix] = {
    "message": "msg_",
    "function_call": "fc_",
    "function_call_output": "fc_",
    "custom_tool_call": "ctc_",
    "custom_tool_call_output": "ctc_",
    "reasoning": "rs_",
    "file_search_call": "fs_",
    "code_interpreter_call": "ci_",
}
_OUTPUTS = {"function_call_output": "function_call", "custom_tool_call_output": "custom_tool_call"}
"""Type of an output → type of its call."""


def prefix_of(item: Body) -> Prefix:
    """Return the prefix of an item's id."""
    return _PREFIXES.get(item["type"], "item_")


def item_body(item: Any, new: Callable[[Prefix], str] = new_id) -> Body:
    """Return an input item in the form that is stored and returned: with id, type and status, its content as parts.

    Args:
        new: returns the id for an item whose id has this prefix.
    """
    kind = item.type
    item_id = new(prefix_of({"type": kind}))
    if kind == "message":
        message: Body = {"id": item_id, "type": kind, "status": "completed", "role": item.role}
        phase = {} if item.phase is None else {"phase": item.phase}
        return message | {"content": _parts(item.content, item.role)} | phase
    if kind in _OUTPUTS or kind in _OUTPUTS.values():
        body: Body = item.model_dump(by_alias=True, exclude_none=True)
        if isinstance(body.get("output"), list):
            body["output"] = _parts(item.output, "user")
        return {"id": item_id, "status": "completed"} | body | {"id": item_id}
    kept: Body = item.model_dump(exclude_unset=True)
    return kept | {"id": item_id}


def _parts(content: Any, role: str) -> list[Body]:
    if isinstance(content, str):
        return [text_part(content) if role == "assistant" else {"type": "input_text", "text": content}]
    parts: list[Body] = []
    for part in content:
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
            parts.append(part.model_dump(exclude_none=part.type == "input_file"))
    return parts


def file_key(part: Body) -> str:
    """Return what names a part's file among the files of `item_messages`: its id, or its content; "" without a file."""
    return part.get("file_id") or part.get("file_data") or ""


def content_parts(item: Body) -> list[Body]:
    """Return the content parts of a message or of a call's output; [] for a text, and for any other item."""
    parts = item.get("content") if item["type"] == "message" else item.get("output") if item["type"] in _OUTPUTS else ()
    return parts if isinstance(parts, list) else []


def check_calls(items: Iterable[Body]) -> None:
    """Check that every function call has an output and every output a call.

    Raises:
        ApiError: 400 with the hosted API's text; such a conversation cannot continue.
    """
    called: dict[str, str] = {}
    answered: set[str] = set()
    for item in items:
        kind = item["type"]
        if _is_call(item):
            called[item["call_id"]] = kind
        elif kind in _OUTPUTS:
            if called.get(item["call_id"]) != _OUTPUTS[kind]:
                call = "function call" if kind == "function_call_output" else "custom tool call"
                raise ApiError(
                    400, f"No tool call found for {call} output with call_id {item['call_id']}.", param="input"
                )
            answered.add(item["call_id"])
    for call_id, kind in called.items():
        if call_id not in answered:
            call = "function call" if kind == "function_call" else "custom tool call"
            raise ApiError(400, f"No tool output found for {call} {call_id}.", param="input")


def _is_call(item: Body) -> bool:
    """Return whether an item is a call that was made. One that was cut off was not."""
    return item["type"] in ("function_call", "custom_tool_call") and item.get("status", "completed") == "completed"


def item_messages(items: Sequence[Body], files: Mapping[str, str] | None = None) -> list[Message]:
    """Return items as a responder reads them: calls join the preceding assistant message, outputs follow as `tool`.

    Items that a model can't read, such as reasoning and calls of hosted tools, are left out. So is a call that a client
    sends again before its output, because services refuse a message with the same call twice.

    Args:
        files: key of a file → its content for the responder: the URL of an image, the text of any other file.
    """
    messages: list[Message] = []
    waiting: set[str] = set()
    for item in items:
        last = messages[-1] if messages else None
        if item["type"] == "message":
            messages.append(_message(item, files or {}))
        elif _is_call(item):
            if item["call_id"] in waiting:
                continue
            waiting.add(item["call_id"])
            arguments = item["arguments"] if item["type"] == "function_call" else json.dumps({"input": item["input"]})
            call = ToolCall(item["call_id"], item["name"], arguments)
            if last is not None and last.role == "assistant":
                messages[-1] = dataclasses.replace(last, tool_calls=(*last.tool_calls, call))
            else:
                messages.append(Message("assistant", "", tool_calls=(call,)))
        elif item["type"] in _OUTPUTS:
            waiting.discard(item["call_id"])
            text, images = _output(item, files or {})
            before = last if last is not None and last.role == "tool" else Message("tool", "")
            messages[len(messages) - (before is last) :] = [
                dataclasses.replace(
                    before,
                    tool_outputs=(*before.tool_outputs, ToolOutput(item["call_id"], text)),
                    content=[*(before.content or ()), *images] or None,
                )
            ]
    return messages


def _output(item: Body, files: Mapping[str, str]) -> tuple[str, list[Body]]:
    """Return the text of a call's output, and its images."""
    if isinstance(item["output"], str):
        return item["output"], []
    parts = [_read_part(part, files) for part in item["output"]]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return "\n".join(texts), [part for part in parts if part["type"] == "image_url"]


def _message(item: Body, files: Mapping[str, str]) -> Message:
    parts = [_read_part(part, files) for part in item["content"]]
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    return Message(item["role"], text, content=parts if any(part["type"] == "image_url" for part in parts) else None)


def _read_part(part: Body, files: Mapping[str, str]) -> Body:
    """Return a part in the form of Chat Completions; a deleted file is replaced by a note with its id."""
    key = file_key(part)
    if part["type"] == "input_image":
        url = part["image_url"] or files.get(key)
        if url is not None:
            return {"type": "image_url", "image_url": {"url": url, "detail": part["detail"]}}
    elif part["type"] != "input_file":
        return {"type": "text", "text": part.get("text") or part.get("refusal") or ""}
    return {"type": "text", "text": files.get(key, f"[{key or 'a file'} is gone]")}
