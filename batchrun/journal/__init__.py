"""Stages 3 and 6: what is known about each row, on disk the moment it is known."""

from batchrun.journal.store import Counts, Finished, InFlight, Journal, RowState

__all__ = ["Counts", "Finished", "InFlight", "Journal", "RowState"]
