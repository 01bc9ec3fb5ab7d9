"""The server's memory: one SQLite file."""

from batchrun.server.store.database import Database
from batchrun.server.store.objects import Objects, Page
from batchrun.server.store.replies import Recorded, Replies

__all__ = ["Database", "Objects", "Page", "Recorded", "Replies"]
