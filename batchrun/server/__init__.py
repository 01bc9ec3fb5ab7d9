"""The embedded server: the Assistants, Responses and Chat Completions protocols over one SQLite file and any responder.

It imports no other part of batchrun. Only `batch/endpoint.py` and `cli/serve.py` import it, to start it.
"""

from batchrun.server.clock import Clock, ManualClock, SystemClock
from batchrun.server.errors import ServerError, SettingsError, StoreError
from batchrun.server.process import EmbeddedServer, serve_forever
from batchrun.server.settings import ServerSettings

__all__ = [
    "Clock",
    "EmbeddedServer",
    "ManualClock",
    "ServerError",
    "ServerSettings",
    "SettingsError",
    "StoreError",
    "SystemClock",
    "serve_forever",
]
