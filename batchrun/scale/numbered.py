"""Messages with numbers: each arrives once and in order, also if a call that carries it is cancelled or repeated."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TypeAlias

__all__ = ["Arrivals", "Numbered", "Unconfirmed"]

Numbered: TypeAlias = tuple[int, object]
"""A message and its number; the first of a direction has the number 1."""


class Unconfirmed:
    """The messages of one direction that may not have arrived. All of them are sent again with the next one.

    Mutable state: `_messages`, in the order of their numbers; `_last`, the number of the newest message.
    """

    def __init__(self) -> None:
        self._messages: deque[Numbered] = deque()
        self._last = 0

    def add(self, message: object) -> None:
        """Give a message its number."""
        self._last += 1
        self._messages.append((self._last, message))

    def confirm(self, number: int) -> None:
        """Forget the messages up to a number: they have arrived."""
        while self._messages and self._messages[0][0] <= number:
            self._messages.popleft()

    def all(self) -> tuple[Numbered, ...]:
        """Return the messages, oldest first."""
        return tuple(self._messages)


class Arrivals:
    """The messages of one direction that have arrived.

    Mutable state: `last`, the number of the newest message so far.
    """

    def __init__(self) -> None:
        self.last = 0

    def new(self, messages: Iterable[Numbered]) -> list[object]:
        """Return those of the messages that have not arrived before, in their order."""
        found = []
        for number, message in messages:
            if number == self.last + 1:
                self.last = number
                found.append(message)
        return found
