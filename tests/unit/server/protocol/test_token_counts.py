from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.server.protocol.token_counts import count_message, count_prompt, count_text
from batchrun.server.responders.base import Conversation, Message, ToolCall, ToolOutput


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("ü" * 4, 2), ("😀", 1), ("\ud800", 1)]
)
def test_four_bytes_are_a_token(text: str, tokens: int) -> None:
    """The tokens of a text are its UTF-8 bytes divided by four, rounded up."""
    assert count_text(text) == tokens


@settings(deadline=None)
@given(st.text(), st.text())
def test_counting_is_nearly_additive(left: str, right: str) -> None:
    """A joined text never has more tokens than its two parts, and at most one token fewer."""
    assert count_text(left) + count_text(right) - 1 <= count_text(left + right) <= count_text(left) + count_text(right)


def test_a_message_costs_its_overhead_and_its_parts() -> None:
    """Text, calls and outputs count, and each message costs four tokens more."""
    call = ToolCall("call_1", "name", "args")
    assert count_message(Message("user", "text")) == 4 + 1
    assert count_message(Message("assistant", "text", tool_calls=(call,))) == 4 + 3
    assert count_message(Message("tool", "", tool_outputs=(ToolOutput("call_1", "12345"),))) == 4 + 2


def test_instructions_count_as_a_message() -> None:
    """Instructions are part of every prompt, so they count like a message."""
    conversation = Conversation("m", "do it", (Message("user", "text"),))
    assert count_prompt(conversation) == (4 + 2) + (4 + 1)
