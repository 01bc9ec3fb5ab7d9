"""The usage of one row's runs, and the part of it that was settled or charged before. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from batchrun.records import Usage, sum_usage

__all__ = ["RowUsage"]


class RowUsage:
    """The usage of one row's runs, except for that of its ended runs, which their replies have.

    Attributes:
        charged: usage already charged to an earlier outcome of the row.

    Mutable state: `_failed`, usage of runs that failed, or that were lost with their thread; `_unsettled`, usage since
    tokens were last reserved.
    """

    __slots__ = ("_failed", "_unsettled", "charged")

    def __init__(self, charged: Sequence[Usage]) -> None:
        self.charged = charged
        self._failed: list[Usage] = []
        self._unsettled: list[Usage] = []

    def add(self, usage: Usage) -> None:
        """Add a run that ended well."""
        self._unsettled.append(usage)

    def add_failed(self, usage: Usage) -> None:
        """Add a run that failed, and was charged all the same."""
        self._failed.append(usage)
        self._unsettled.append(usage)

    def keep_lost(self, usages: Iterable[Usage]) -> None:
        """Keep the usage of runs that ended well, and are run again because their thread is lost."""
        self._failed += usages

    def take_unsettled(self) -> Usage:
        """Return the usage since the last call."""
        usage, self._unsettled = sum_usage(self._unsettled), []
        return usage

    @property
    def has_failed_runs(self) -> bool:
        """A run failed or was lost, and its usage is known."""
        return bool(self._failed)

    def total(self, ended: Sequence[Usage]) -> Usage:
        """Return the usage of all runs.

        Args:
            ended: usage of the runs that ended well.
        """
        return sum_usage([*self._failed, *ended])
