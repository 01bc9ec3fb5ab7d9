"""The usage of one row's runs, and the part of it that was settled or charged before. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from batchrun.token_usage import Usage, sum_usage, usage_of_model

__all__ = ["RowUsage"]


class RowUsage:
    """The usage of one row's runs, except for that of its ended runs, which their replies have.

    Attributes:
        charged: usage already charged to an earlier outcome of the row.

    Mutable state: `_failed`, usage of runs that failed, or that were lost with their thread; `_unsettled`, usage since
    tokens were last reserved; `is_whole`, False if the usage of a run is not known, and no money was taken for another
    request since.
    """

    __slots__ = ("_failed", "_unsettled", "charged", "is_whole")

    def __init__(self, charged: Sequence[Usage], spent: Sequence[Usage] = ()) -> None:
        """
        Args:
            spent: usage of runs of an earlier run of the batch, which no outcome has.
        """
        self.charged = charged
        self._failed: list[Usage] = [*spent]
        self._unsettled: list[Usage] = []
        self.is_whole = True

    def add(self, usage: Usage) -> None:
        """Add a run that ended well."""
        self._unsettled.append(usage)
        self.is_whole &= usage.is_known

    def add_failed(self, usage: Usage) -> None:
        """Add a run that failed, and was charged all the same."""
        self._failed.append(usage)
        self.add(usage)

    def keep_lost(self, usages: Iterable[Usage]) -> None:
        """Keep the usage of runs that ended well, and are run again because their thread is lost."""
        self._failed += usages

    def fall_back(self, first: Usage, model: str | None) -> None:
        """Keep the usage of the first model.

        Args:
            first: of all its runs, with its name.
            model: its name.
        """
        self._failed = [first] if first != Usage() else []
        self.charged = [usage_of_model(usage, model) for usage in self.charged]

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
