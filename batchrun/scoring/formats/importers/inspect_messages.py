"""Messages of inspect_ai as Chat Completions have them. Source: its `ChatMessage`, `Content` and `ToolCall`."""

from __future__ import annotations

from typing import Final

from batchrun.records import JsonDict, Value
from batchrun.scoring.formats.notes import Notes
from batchrun.tables.values import json_text

__all__ = ["sent_messages"]

_KEYS: Final = ("role", "content", "name", "tool_calls", "tool_call_id")
_TEXT: Final = frozenset({"type", "text"})


def sent_messages(value: Value, notes: Notes) -> Value:
    """Return a list of messages with the keys that are sent, and note the others; another value as it is."""
    if not isinstance(value, list) or not all(isinstance(each, dict) and "role" in each for each in value):
        return value
    dropped: dict[str, Value] = {}
    messages = [_message(each, dropped) for each in value]
    for path, each in dropped.items():
        notes.add_value(f"messages[].{path}", each)
    return messages


def _message(given: JsonDict, dropped: dict[str, Value]) -> JsonDict:
    message = {key: value for key, value in given.items() if key in _KEYS and value is not None}
    dropped |= {key: value for key, value in given.items() if key not in _KEYS and not _is_empty(value)}
    if isinstance(message.get("content"), list):
        parts = [_part(each, dropped) for each in message["content"]]
        message["content"] = [each for each in parts if each is not None]
    if isinstance(message.get("tool_calls"), list):
        message["tool_calls"] = [_call(each, dropped) for each in message["tool_calls"]]
    return message


def _part(part: Value, dropped: dict[str, Value]) -> Value:
    """Return a part of a content; None for a thought, which is not sent."""
    if not isinstance(part, dict):
        return part
    kept = {key: value for key, value in part.items() if not _is_empty(value)}
    if kept.get("type") == "reasoning":
        dropped["content[].reasoning"] = kept
        return None
    if kept.get("type") == "text":
        dropped |= {f"content[].{key}": value for key, value in kept.items() if key not in _TEXT}
        return {key: value for key, value in kept.items() if key in _TEXT}
    if kept.get("type") == "image" and isinstance(kept.get("image"), str):
        rest = {key: value for key, value in kept.items() if key not in ("type", "image")}
        return {"type": "image_url", "image_url": {"url": kept["image"], **rest}}
    return part


def _call(call: Value, dropped: dict[str, Value]) -> Value:
    if not isinstance(call, dict) or not isinstance(call.get("function"), str):
        return call
    known = ("id", "type", "function", "arguments")
    dropped |= {
        f"tool_calls[].{key}": value for key, value in call.items() if key not in known and not _is_empty(value)
    }
    function = {"name": call["function"], "arguments": json_text(call.get("arguments"))}
    return {"id": call.get("id"), "type": call.get("type") or "function", "function": function}


def _is_empty(value: Value) -> bool:
    return value is None or value in ("", [], {})
