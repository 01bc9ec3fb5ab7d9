"""The stored state of the server, in one SQLite file."""

from batchrun.server.store.blobs import Blobs
from batchrun.server.store.database import Database
from batchrun.server.store.objects import Objects, Page
from batchrun.server.store.replies import Recorded, Replies
from batchrun.server.store.request_lines import RequestLines

__all__ = ["Blobs", "Database", "Objects", "Page", "Recorded", "Replies", "RequestLines"]
