"""Stages 3 and 6: what is known about each row, on disk the moment it is known."""

from batchrun.journal.created import Created, place_of
from batchrun.journal.opening import open_journal
from batchrun.journal.store import Carried, Counts, Journal, RowHistory

__all__ = ["Carried", "Counts", "Created", "Journal", "RowHistory", "open_journal", "place_of"]
