"""The embedded server: the Assistants, Responses and Chat Completions protocols over one SQLite file and any responder.

It imports no other part of batchrun. Only `batch/endpoint.py` and `cli/serve.py` import it, to start it.

`__all__` is what users may rely on: the server, its settings and errors, the responders, and the parts of which a
responder of your own consists. Responders are imported when they are used, because their libraries take half a second.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from batchrun.server.clock import Clock, ManualClock, SystemClock
from batchrun.server.errors import ServerError, SettingsError, StoreError
from batchrun.server.process import EmbeddedServer, serve_forever
from batchrun.server.responders.base import (
    Conversation,
    Finish,
    Message,
    Part,
    Responder,
    ResponderError,
    TextDelta,
    TokenCount,
    ToolCall,
    ToolCallDelta,
    ToolOutput,
)
from batchrun.server.search.file_search import Embedder, EmbeddingError
from batchrun.server.settings import ServerSettings

if TYPE_CHECKING:
    from batchrun.server.responders.fault_injection import FaultPlan, FaultyResponder
    from batchrun.server.responders.script import ScriptResponder
    from batchrun.server.responders.tutor import TutorResponder
    from batchrun.server.responders.upstream import UpstreamResponder
    from batchrun.server.search.embeddings import UpstreamEmbedder

__all__ = [
    "Clock",
    "Conversation",
    "EmbeddedServer",
    "Embedder",
    "EmbeddingError",
    "FaultPlan",
    "FaultyResponder",
    "Finish",
    "ManualClock",
    "Message",
    "Part",
    "Responder",
    "ResponderError",
    "ScriptResponder",
    "ServerError",
    "ServerSettings",
    "SettingsError",
    "StoreError",
    "SystemClock",
    "TextDelta",
    "TokenCount",
    "ToolCall",
    "ToolCallDelta",
    "ToolOutput",
    "TutorResponder",
    "UpstreamEmbedder",
    "UpstreamResponder",
    "serve_forever",
]

_HOMES = {
    "FaultPlan": "responders.fault_injection",
    "FaultyResponder": "responders.fault_injection",
    "ScriptResponder": "responders.script",
    "TutorResponder": "responders.tutor",
    "UpstreamEmbedder": "search.embeddings",
    "UpstreamResponder": "responders.upstream",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
