"""A responder that a test controls, and the behaviour that many tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import anyio

from batchrun.server.responders.base import Conversation, Finish, Part, TextDelta, ToolCall

Script: TypeAlias = Callable[[Conversation], AsyncIterator[Part]]


@dataclass(slots=True)
class Scripted:
    """A responder that calls the test's function and records the conversations."""

    script: Script
    name: str = "scripted"
    models: tuple[str, ...] = ("scripted-1",)
    asked: list[Conversation] = field(default_factory=list)

    def respond(self, conversation: Conversation) -> AsyncIterator[Part]:
        self.asked.append(conversation)
        return self.script(conversation)

    async def aclose(self) -> None:
        pass


async def echo(conversation: Conversation) -> AsyncIterator[Part]:
    """Answer with the words of the last message."""
    for word in ("You ", "said: ", conversation.messages[-1].text if conversation.messages else ""):
        yield TextDelta(word)
    yield Finish("stop")


async def forever(conversation: Conversation) -> AsyncIterator[Part]:
    """Begin an answer that never ends."""
    yield TextDelta("Let me think")
    await anyio.sleep_forever()
    yield Finish("stop")


async def call_functions(conversation: Conversation) -> AsyncIterator[Part]:
    """Call every offered function, then answer with their outputs."""
    outputs = [output.output for message in conversation.messages for output in message.tool_outputs]
    if outputs:
        yield TextDelta(" and ".join(outputs))
        yield Finish("stop")
        return
    for number, tool in enumerate(conversation.tools):
        yield ToolCall(f"call_{number}", tool["function"]["name"], '{"city": "Bern"}')
    yield Finish("tool_calls")


WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
TIME: Any = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}
