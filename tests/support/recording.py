"""A responder that records what it is asked, for tests of what rows send."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from batchrun.server.responders.base import Conversation, Finish, Part, TextDelta

__all__ = ["Recording"]


def _echo(conversation: Conversation) -> str | Sequence[Part]:
    return f"{conversation.model} to {conversation.messages[-1].text}"


@dataclass
class Recording:
    """Answers with its model and the last message.

    Mutable state: `asked`, the conversations so far.

    Attributes:
        reply: returns the answer, as a text or as its parts; may raise `ResponderError`.
    """

    asked: list[Conversation] = field(default_factory=list)
    reply: Callable[[Conversation], str | Sequence[Part]] = _echo
    name: str = "recording"
    models: tuple[str, ...] = ()

    async def respond(self, conversation: Conversation) -> AsyncIterator[Part]:
        """Yield the parts of the answer."""
        self.asked.append(conversation)
        reply = self.reply(conversation)
        for part in (TextDelta(reply), Finish("stop")) if isinstance(reply, str) else reply:
            yield part

    async def aclose(self) -> None:
        """Do nothing."""
