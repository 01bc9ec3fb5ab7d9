"""Replies of the Chat Completions protocol."""

from __future__ import annotations

from typing import Any

__all__ = ["chat_reply"]


def chat_reply(content: str | None = "yes", finish_reason: str = "stop", **fields: Any) -> dict[str, Any]:
    """Return the body of a reply with one choice.

    Args:
        fields: of the body; `message` holds further fields of the choice's message.
    """
    message = {"role": "assistant", "content": content, **fields.pop("message", {})}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
        **fields,
    }
