"""Messages of other tools as cells: the question, the instructions, and the whole conversation if there is more."""

from __future__ import annotations

from batchrun.records import Value
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.importer import Cells

__all__ = ["conversation_cells", "take_text", "text_of"]

_PLAIN = frozenset({"role", "content"})
_SYSTEM = ("system", "developer")


def text_of(content: Value) -> str | None:
    """Return the text of a message's content, or None if it has a part that is not text."""
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if isinstance(content, dict):
        content = [content]  # OpenAI's Evals write one part without a list
    if not isinstance(content, list):
        return None
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and isinstance(part.get("text"), str) and part.keys() <= {"type", "text"}:
            texts.append(part["text"])
        else:
            return None
    return "\n".join(texts)


def take_text(message: Fields) -> str | None:
    """Take the text of a message, and return None if it has none. Parts that are not text stay.

    >>> thinks = Fields.of({"content": [{"type": "thinking", "thinking": "6 * 7"}, {"type": "text", "text": "42"}]})
    >>> take_text(thinks), [path for path, _ in thinks.left()]
    ('42', ['content[].type', 'content[].thinking'])
    """
    content = message.get("content")
    whole = text_of(content)
    if whole is not None:
        message.take("content")
        return whole
    if not isinstance(content, list) or not any(map(_is_text, content)):
        return None
    texts = []
    for part in message.objects("content"):
        if _is_text(part.fields):
            part.take("type")
            texts.append(part.text("text") or "")
    return "\n".join(texts)


def _is_text(part: Value) -> bool:
    return isinstance(part, dict) and part.get("type") in ("text", "output_text") and isinstance(part.get("text"), str)


def _texts_in(content: Value) -> str:
    """Return the text parts of a message's content."""
    whole = text_of(content)
    if whole is not None:
        return whole
    texts = [each.get("text") for each in content if isinstance(each, dict)] if isinstance(content, list) else []
    return "\n".join(each for each in texts if isinstance(each, str))


def conversation_cells(fields: Fields, key: str) -> Cells:
    """Take a text or a list of messages, and return `question`, `instructions` and `messages`.

    `question` is the last user message and `instructions` are the system messages. `messages` is the whole list, for a
    conversation that consists of more than these two. What is neither text nor messages stays.
    """
    value = fields.get(key)
    if isinstance(value, str):
        return {"question": fields.take(key)}
    if not isinstance(value, list) or not value or not all(isinstance(each, dict) for each in value):
        return {}
    messages = fields.take(key)
    roles = [each.get("role") for each in messages]
    texts = [text_of(each.get("content")) for each in messages]
    system = [text for role, text in zip(roles, texts, strict=True) if role in _SYSTEM and text]
    users = [text for role, text in zip(roles, texts, strict=True) if role == "user"]
    asked = [each.get("content") for each in messages if each.get("role") == "user"]
    cells: Cells = {"question": _texts_in(asked[-1]) if asked else ""}
    if system:
        cells["instructions"] = "\n\n".join(system)
    is_short = roles[-1] == "user" and len(users) == 1 and len(system) == len(messages) - 1
    if not is_short or None in texts or any(each.keys() - _PLAIN for each in messages):
        cells["messages"] = messages
    return cells
