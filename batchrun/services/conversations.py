"""The messages of a turn in the form of each protocol: examples, a conversation, or a single user message.

The examples come after the system and developer messages at the beginning of a conversation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

from batchrun.prompts.conversations import question_text
from batchrun.records import JsonDict, JsonObject, Turn

__all__ = ["chat_messages", "question_of", "response_items"]

_INSTRUCTING = ("system", "developer")


def question_of(turn: Turn) -> Turn:
    """Return a turn with the text of its last user message, which is the one that gets the files of the row."""
    return replace(turn, text=question_text(turn.messages)) if turn.messages else turn


def chat_messages(turn: Turn, question: JsonObject | None = None) -> list[JsonObject]:
    """Return the messages of a turn for Chat Completions, or for a thread of the Assistants protocol, which has the
    same parts.

    Args:
        question: its last user message with the files of the row; None if it has no files.
    """
    messages = _messages(turn)
    if question is not None:
        place = _place_of_question(messages)
        messages[place] = _with_images(question, messages[place])
    return messages


def response_items(turn: Turn, question: JsonObject | None = None) -> list[JsonObject]:
    """Return the messages of a turn as items of the Responses protocol. `question` as in `chat_messages`.

    >>> response_items(Turn("1+1?", examples=({"role": "assistant", "content": "Ask me."},)))
    [{'role': 'assistant', 'content': 'Ask me.'}, {'role': 'user', 'content': '1+1?'}]
    """
    messages = _messages(turn)
    items = [list(_items(message)) for message in messages]
    if question is not None:
        place = _place_of_question(messages)
        items[place] = [_with_images(question, items[place][0])]
    return list(chain.from_iterable(items))


def _messages(turn: Turn) -> list[JsonObject]:
    if not turn.messages:
        return [*turn.examples, {"role": "user", "content": turn.text}]
    if not turn.examples:
        return list(turn.messages)
    first = next(number for number, message in enumerate(turn.messages) if message["role"] not in _INSTRUCTING)
    return [*turn.messages[:first], *turn.examples, *turn.messages[first:]]


def _place_of_question(messages: Sequence[JsonObject]) -> int:
    return max(number for number, message in enumerate(messages) if message["role"] == "user")


def _with_images(question: JsonObject, message: JsonObject) -> JsonObject:
    """Return a message with the files of the row and the images that it has itself."""
    parts = message["content"] if isinstance(message["content"], list) else []
    own = [part for part in parts if part["type"] in ("image_url", "input_image")]
    content = question["content"]
    if not own:
        return question
    kind = "input_text" if own[0]["type"] == "input_image" else "text"
    parts = [{"type": kind, "text": content}] if isinstance(content, str) else content
    return {**question, "content": [*own, *parts]}


def _items(message: JsonObject) -> Iterator[JsonObject]:
    """Yield what the Responses protocol has for a message: a message, function calls, or the output of one."""
    content = message["content"]
    if message["role"] == "tool":
        text = content if isinstance(content, str) else "\n".join(part["text"] for part in content)
        yield {"type": "function_call_output", "call_id": message["tool_call_id"], "output": text}
        return
    if content or "tool_calls" not in message:
        is_text = isinstance(content, str)
        parts = content if is_text else [_item_part(part, message["role"]) for part in content]
        yield {"role": message["role"], "content": parts}
    for call in message.get("tool_calls", ()):
        yield {"type": "function_call", "call_id": call["id"], **call["function"]}


def _item_part(part: JsonObject, role: str) -> JsonDict:
    if part["type"] == "text":
        return {"type": "output_text" if role == "assistant" else "input_text", "text": part["text"]}
    image = part["image_url"]
    return {"type": "input_image", "image_url": image["url"], "detail": image.get("detail", "auto")}
