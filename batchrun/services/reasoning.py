"""Reads the reasoning of a model from its replies: from fields and items of its own, or from the text of the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import is_
from typing import Any

from batchrun.records import JsonObject
from batchrun.services.reply_fields import count, name, objects
from batchrun.thoughts import split_thought

__all__ = ["REASONING_FIELDS", "reasoning_of_part", "separated_items", "separated_messages"]

REASONING_FIELDS = ("reasoning_content", "reasoning")
"""Fields of a chat message: those of DeepSeek and earlier vLLM, and of OpenRouter and vLLM. Some servers fill both."""


def reasoning_of_part(part: JsonObject) -> str:
    """Return the reasoning in a part of a chat message's content (Mistral); "" if it is another kind of part."""
    if part.get("type") != "thinking":
        return ""
    found = part.get("thinking")
    return name(found) or "".join(name(each.get("text")) or "" for each in objects(found))


def separated_messages(messages: Sequence[JsonObject]) -> tuple[Sequence[JsonObject], list[str]]:
    """Return (messages of the Assistants protocol without the thoughts in their texts, the thoughts)."""
    thoughts: list[str] = []
    return [_without_thoughts(message, _cut_message_part, thoughts) for message in messages], thoughts


def separated_items(items: Sequence[JsonObject]) -> tuple[Sequence[JsonObject], list[str]]:
    """Return (output items of a response without the thoughts in their texts; these thoughts, and its reasoning)."""
    thoughts: list[str] = []
    separated = []
    for item in items:
        if item.get("type") == "reasoning":
            # Open models give the reasoning itself (`content`), others at most a summary.
            parts = objects(item.get("content")) or objects(item.get("summary"))
            thoughts += filter(None, (name(part.get("text")) for part in parts))
            separated.append(item)
        else:
            separated.append(_without_thoughts(item, _cut_item_part, thoughts))
    return separated, thoughts


def _without_thoughts(
    message: JsonObject, cut: Callable[[JsonObject, list[str]], JsonObject], thoughts: list[str]
) -> JsonObject:
    """Return a message without its thoughts, which are added to `thoughts`; the same object if it has none."""
    content = message.get("content")
    if not isinstance(content, list):
        return message
    parts = [cut(part, thoughts) if isinstance(part, dict) else part for part in content]
    if all(map(is_, parts, content)):
        return message
    return {**message, "content": parts}


def _cut_message_part(part: JsonObject, thoughts: list[str]) -> JsonObject:
    text = part.get("text")
    if part.get("type") != "text" or not isinstance(text, dict):
        return part
    cut = _cut(text, "value", thoughts)
    return part if cut is text else {**part, "text": cut}


def _cut_item_part(part: JsonObject, thoughts: list[str]) -> JsonObject:
    return _cut(part, "text", thoughts) if part.get("type") == "output_text" else part


def _cut(body: JsonObject, field: str, thoughts: list[str]) -> JsonObject:
    """Return an object without the thought in one of its fields; positions in the text follow."""
    whole = body.get(field)
    if not isinstance(whole, str):
        return body
    answer, thought = split_thought(whole)
    if answer is whole:
        return body
    if thought:
        thoughts.append(thought)
    shift = len(whole) - len(answer)
    annotations = [_shifted(each, shift) for each in objects(body.get("annotations"))]
    return {**body, field: answer, "annotations": annotations}


def _shifted(annotation: JsonObject, shift: int) -> JsonObject:
    places: dict[str, Any] = {
        key: max(0, place - shift)
        for key in ("start_index", "end_index", "index")
        if (place := count(annotation.get(key))) is not None
    }
    return {**annotation, **places}
