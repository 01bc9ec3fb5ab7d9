"""The HTTP requests of the Batch API, each sent once: nothing here repeats a request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import BinaryIO

from batchrun.errors import ConnectionLost
from batchrun.records import JsonObject
from batchrun.services.polling import listed
from batchrun.services.reply_fields import in_path, name
from batchrun.services.wire import Wire

__all__ = ["BatchClient"]

PURPOSE = "batch"
WINDOW = "24h"
"""The only completion window of OpenAI's Batch API."""


class BatchClient:
    """Sends the requests of the Batch API. Every method raises a `ServiceFault` as translated by `Wire`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    @property
    def secrets(self) -> tuple[str, ...]:
        """Strings that must not appear in any message."""
        return self._wire.secrets

    @property
    def is_azure(self) -> bool:
        """Whether the service is Azure's."""
        return self._wire.is_azure

    async def upload(self, file_name: str, content: BinaryIO, key: str) -> JsonObject:
        """Upload a file of request lines, which is read while it is sent; return the file object.

        Raises:
            ConnectionLost: the reply names no file: nobody knows whether there is one.
        """
        headers = {"Idempotency-Key": key}
        return _named(await self._wire.post_file("/files", {"purpose": PURPOSE}, file_name, content, headers))

    async def file(self, file_id: str) -> JsonObject:
        """Return a file object."""
        return (await self._wire.get(f"/files/{in_path(file_id)}", {}))[0]

    def files(self) -> AsyncIterator[JsonObject]:
        """Yield the files of purpose `batch`."""
        return listed(self._wire, "/files", purpose=PURPOSE)

    async def delete_file(self, file_id: str) -> bool:
        """Delete a file; return False if the service does not have it."""
        return await self._wire.delete(f"/files/{in_path(file_id)}", {})

    async def create(self, file_id: str, endpoint: str, metadata: Mapping[str, str], key: str) -> JsonObject:
        """Create a batch; return the batch object. Raises as `upload` does."""
        body = {
            "input_file_id": file_id,
            "endpoint": endpoint,
            "completion_window": WINDOW,
            "metadata": dict(metadata),
        }
        return _named(await self._wire.post("/batches", body, {"Idempotency-Key": key}))

    async def batch(self, batch_id: str) -> tuple[JsonObject, Mapping[str, str]]:
        """Return (a batch object, the headers of the reply)."""
        return await self._wire.get(f"/batches/{in_path(batch_id)}", {})

    def batches(self) -> AsyncIterator[JsonObject]:
        """Yield all batches of the account, newest first."""
        return listed(self._wire, "/batches")

    async def cancel(self, batch_id: str) -> JsonObject:
        """Cancel a batch; return the batch object."""
        return await self._wire.post(f"/batches/{in_path(batch_id)}/cancel", {}, {})

    async def download(self, file_id: str, path: Path) -> None:
        """Write a file's content to `path` as it arrives."""
        with path.open("wb") as file:
            async with self._wire.download(f"/files/{in_path(file_id)}/content", {}) as chunks:
                async for chunk in chunks:
                    file.write(chunk)


def _named(made: JsonObject) -> JsonObject:
    if name(made.get("id")) is None:
        raise ConnectionLost("the server's reply has no 'id'", error_type="bad_reply")
    return made
