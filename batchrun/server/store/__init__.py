"""The server's memory: one SQLite file."""

from batchrun.server.store.blobs import Blobs
from batchrun.server.store.database import Database
from batchrun.server.store.objects import Objects, Page
from batchrun.server.store.replies import Recorded, Replies

__all__ = ["Blobs", "Database", "Objects", "Page", "Recorded", "Replies"]
