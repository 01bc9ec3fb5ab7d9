"""Deleting what a batch made. An object's kind says how, whatever protocol the batch speaks by now."""

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
"""For the objects of one row, waits for limits included: rows that ended must not pile up behind a slow service."""

_ENDPOINTS: Mapping[Kind, tuple[str, Mapping[str, str]]] = {
    "thread": ("/threads", BETA),
    "assistant": ("/assistants", BETA),
    "conversation": ("/conversations", {}),
    "response": ("/responses", {}),
    "file": ("/files", {}),
    "vector_store": ("/vector_stores", BETA),
}


async def delete_object(wire: Wire, made: Created) -> bool:
    """Delete one object; False if the service does not know it (any more). A thread takes its runs along; a
    conversation does not take its responses, nor a vector store its files.

    Raises:
        ServiceFault: it cannot be deleted, or not now.
    """
    path, headers = _ENDPOINTS[made.kind]
    return await wire.delete(f"{path}/{quote(made.object_id, safe='')}", headers)


class RowDeletion:
    """Deletes what a row made, all its tries included. One try for each object: what is left, `cleanup` deletes."""

    def __init__(self, wire: Wire, journal: Journal, clock: WallClock) -> None:
        self._wire = wire
        self._created = journal.created
        self._manifest = journal.read_manifest()
        self._clock = clock

    async def __call__(self, row_key: str) -> int:
        """Returns the number of objects that are still there.

        Raises:
            OutputError: the journal cannot be written.
        """
        self._created.gather(self._manifest, row_key)
        objects = self._created.of_row(row_key, place_of(self._manifest))
        left = len(objects)
        with anyio.move_on_after(ROW_TIMEOUT_S):
            for made in objects:
                try:
                    await delete_object(self._wire, made)
                except ServiceFault:
                    continue
                self._created.deleted(made.object_id, self._clock())
                left -= 1
        return left
