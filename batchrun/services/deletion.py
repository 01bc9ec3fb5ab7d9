"""Deleting what a batch made. An object's kind says how, whatever protocol the batch speaks by now."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from batchrun.journal import Created
from batchrun.journal.created import Kind
from batchrun.services.assistants import BETA
from batchrun.services.wire import Wire

__all__ = ["delete_object"]

_ENDPOINTS: Mapping[Kind, tuple[str, Mapping[str, str]]] = {
    "thread": ("/threads", BETA),
    "assistant": ("/assistants", BETA),
    "conversation": ("/conversations", {}),
    "response": ("/responses", {}),
}


async def delete_object(wire: Wire, made: Created) -> bool:
    """Delete one object; False if the service does not know it (any more). A thread takes its runs along; a
    conversation does not take its responses.

    Raises:
        ServiceFault: it cannot be deleted, or not now.
    """
    path, headers = _ENDPOINTS[made.kind]
    return await wire.delete(f"{path}/{quote(made.object_id, safe='')}", headers)
