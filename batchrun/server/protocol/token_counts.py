"""Token counts, for responders that give none.

One token is four bytes of UTF-8, rounded up for each text. A message costs four tokens more than its text, for the
role and the separators (the overhead that is documented for Chat Completions models). This estimate needs no
vocabulary and gives the same figure everywhere.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from batchrun.server.responders.base import TokenCount

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batchrun.server.responders.base import Conversation, Message, ToolCall

__all__ = ["BYTES_PER_TOKEN", "TOKENS_PER_MESSAGE", "count_answer", "count_message", "count_prompt", "count_text"]

BYTES_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4


def count_text(text: str) -> int:
    """Return the tokens of one text: its UTF-8 bytes divided by four, rounded up."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def count_message(message: Message) -> int:
    """Return the tokens of one message: its overhead, text, calls and tool outputs."""
    tokens = TOKENS_PER_MESSAGE + count_text(message.text)
    for call in message.tool_calls:
        tokens += count_text(call.name) + count_text(call.arguments)
    for output in message.tool_outputs:
        tokens += count_text(output.output)
    return tokens


def count_prompt(conversation: Conversation) -> int:
    """Return the tokens that a model reads for one answer: instructions, tools and messages."""
    tokens = sum(count_message(message) for message in conversation.messages)
    if conversation.instructions:
        tokens += TOKENS_PER_MESSAGE + count_text(conversation.instructions)
    if conversation.tools:
        tokens += count_text(json.dumps(list(conversation.tools), ensure_ascii=False))
    return tokens


def count_answer(conversation: Conversation, text: str, calls: Iterable[ToolCall]) -> TokenCount:
    """Return the usage of one answer by the rule of this module."""
    completion = count_text(text) + sum(count_text(call.name) + count_text(call.arguments) for call in calls)
    return TokenCount(prompt_tokens=count_prompt(conversation), completion_tokens=completion)
