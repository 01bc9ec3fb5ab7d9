"""The embedded server: the Assistants protocol over one SQLite file, with any responder behind it.

It imports no other part of batchrun, and no other part imports it but the composition root and the command
line, which start it.
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
