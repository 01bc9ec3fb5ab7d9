"""What `Limits` asks of rates: requests and tokens per minute, of this process alone or shared with other workers."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

__all__ = ["Rate", "RatesPerMinute", "Unit"]

Unit: TypeAlias = Literal["requests", "tokens"]


class Rate(Protocol):
    """A limit per minute on units that are used, first come first served."""

    @property
    def per_minute(self) -> float:
        """Units a minute that may be used now."""

    async def acquire(self, amount: float = 1.0) -> None:
        """Wait until `amount` units may be used, in the order of the calls."""

    def settle(self, difference: float) -> None:
        """Correct an earlier reservation: positive if more was used than reserved, negative if less."""


class RatesPerMinute(Protocol):
    """The rates of a batch. One that is None is not limited, as far as is known."""

    @property
    def requests(self) -> Rate | None:
        """HTTP requests."""

    @property
    def tokens(self) -> Rate | None:
        """Tokens of prompts and completions."""

    def adopt(self, unit: Unit, per_minute: float) -> None:
        """Take over a limit that a reply's headers report. It is called for a rate that is None."""
