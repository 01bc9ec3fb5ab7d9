"""Purses: the money that a budget may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

__all__ = ["FixedPurse", "Purse"]


class Purse(Protocol):
    """The money that a budget may use. It may be a share of a sum that several processes use.

    Attributes:
        limit_usd: US dollars that the batch may cost in all its processes.
        usable_usd: US dollars that this budget may spend and reserve in all.
        spent_elsewhere_usd: US dollars of the limit that are spent and that this budget does not count.
        unknown_elsewhere_usd: the part of it for requests of unknown cost.
    """

    @property
    def limit_usd(self) -> float: ...

    @property
    def usable_usd(self) -> float: ...

    @property
    def spent_elsewhere_usd(self) -> float: ...

    @property
    def unknown_elsewhere_usd(self) -> float: ...

    def ask(self, needed_usd: float, wake: Callable[[], None]) -> bool:
        """Ask for money for a row that the usable money does not suffice for; return False if it can never come.

        Args:
            needed_usd: US dollars to reserve for the row.
            wake: called when it has come, or is known not to come.
        """


@dataclass(frozen=True, slots=True)
class FixedPurse:
    """A fixed amount of money, for a batch that is run by one process."""

    limit_usd: float

    @property
    def usable_usd(self) -> float:
        """See `Purse`."""
        return self.limit_usd

    @property
    def spent_elsewhere_usd(self) -> float:
        """See `Purse`."""
        return 0.0

    @property
    def unknown_elsewhere_usd(self) -> float:
        """See `Purse`."""
        return 0.0

    def ask(self, needed_usd: float, wake: Callable[[], None]) -> bool:  # noqa: ARG002 - there is never more
        """See `Purse`."""
        return False
