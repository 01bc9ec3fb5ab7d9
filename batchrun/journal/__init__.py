"""Stages 3 and 6: the journal, which has everything known about each row on disk the moment it is known."""

from batchrun.journal.created_objects import Created, place_of
from batchrun.journal.journal import Journal
from batchrun.journal.models import ModelFacts
from batchrun.journal.open import manifest_of, open_journal
from batchrun.journal.row_history import Carried, Counts, RowHistory

__all__ = [
    "Carried",
    "Counts",
    "Created",
    "Journal",
    "ModelFacts",
    "RowHistory",
    "manifest_of",
    "open_journal",
    "place_of",
]
