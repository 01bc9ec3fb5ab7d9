from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from batchrun.server.execution.answer import ask
from batchrun.server.responders.base import Conversation, Finish, Part, ResponderError, ToolCall
from tests.integration.server.scripted import Scripted


@pytest.mark.anyio
async def test_two_calls_with_one_id() -> None:
    """An answer whose calls cannot be told apart fails with a message that names their id."""

    async def twice(conversation: Conversation) -> AsyncIterator[Part]:
        yield ToolCall("call_1", "f", "{}")
        yield ToolCall("call_1", "g", "{}")
        yield Finish("tool_calls")

    with pytest.raises(ResponderError, match="'call_1'"):
        await ask(Scripted(twice), Conversation("m", "", ()), lambda *_: None, lambda _: None)
