"""Deletes the objects that a batch created at the service, by their kind and independent of the batch's protocol."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import anyio

from batchrun.clock import WallClock
from batchrun.errors import ServiceFault
from batchrun.journal import Created, Journal, place_of
from batchrun.journal.created_objects import Kind
from batchrun.services.wire import BETA, Wire

__all__ = ["RowDeletion", "delete_object"]

ROW_TIMEOUT_S = 30.0
"""For the objects of one row, including waits for rate limits: ended rows must not queue up for a slow service."""

_ENDPOINTS: Mapping[Kind, tuple[str, Mapping[str, str]]] = {
    "thread": ("/threads", BETA),
    "assistant": ("/assistants", BETA),
    "conversation": ("/conversations", {}),
    "response": ("/responses", {}),
    "file": ("/files", {}),
    "vector_store": ("/vector_stores", BETA),
}


async def delete_object(wire: Wire, created: Created) -> bool:
    """Delete one object; return False if the service does not have it.

    A thread is deleted with its runs, but a conversation without its responses, and a vector store without its files.

    Raises:
        ServiceFault: the service refused, or cannot delete the object now.
    """
    path, headers = _ENDPOINTS[created.kind]
    return await wire.delete(f"{path}/{quote(created.object_id, safe='')}", headers)


class RowDeletion:
    """Deletes the objects of a row, of all its attempts. Each is tried once; `batchrun cleanup` deletes the rest."""

    def __init__(self, wire: Wire, journal: Journal, clock: WallClock) -> None:
        self._wire = wire
        self._created = journal.created
        self._manifest = journal.read_manifest()
        self._clock = clock

    async def __call__(self, row_key: str) -> int:
        """Delete a row's objects; return the number of objects that could not be deleted.

        Raises:
            OutputError: the journal cannot be written.
        """
        self._created.gather(self._manifest, row_key)
        objects = self._created.of_row(row_key, place_of(self._manifest))
        left = len(objects)
        with anyio.move_on_after(ROW_TIMEOUT_S):
            for created in objects:
                try:
                    await delete_object(self._wire, created)
                except ServiceFault:
                    continue
                self._created.deleted(created.object_id, self._clock())
                left -= 1
        return left
