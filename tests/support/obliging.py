"""A tutor that never refuses, for tests whose service answers every question."""

from __future__ import annotations

from collections.abc import AsyncIterator

from batchrun.server.responders.base import Conversation, Part, TextDelta
from batchrun.server.responders.tutor import TutorResponder

__all__ = ["Obliging"]


class Obliging(TutorResponder):
    """The tutor, with its refusals turned into text, as a language model has text for any question."""

    async def respond(self, conversation: Conversation) -> AsyncIterator[Part]:
        """Yield the tutor's answer as text."""
        async for part in super().respond(conversation):
            yield TextDelta(part.text) if isinstance(part, TextDelta) else part
