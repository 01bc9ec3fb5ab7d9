"""New files: those that clients upload, that code produces, and the results of service batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from batchrun.server.protocol.ids import new_id
from batchrun.server.store.kinds import FILE

if TYPE_CHECKING:
    from batchrun.server.execution.parts import Parts
    from batchrun.server.protocol.bodies import FileBody

__all__ = ["add_file"]


def add_file(
    parts: Parts, owner: str, filename: str, purpose: str, content: BinaryIO, size: int, expires_at: int | None = None
) -> FileBody:
    """Store a file and return its object."""
    body: FileBody = {
        "id": new_id("file-"),
        "object": "file",
        "bytes": size,
        "created_at": parts.now(),
        "expires_at": expires_at,
        "filename": filename,
        "purpose": purpose,
        "status": "processed",
        "status_details": None,
    }
    parts.objects.add(FILE, owner, body, run=purpose)
    parts.blobs.add(body["id"], content, size)
    return body
