"""Uploaded files in the form that a responder reads: images as URLs, all others as text."""

from __future__ import annotations

import base64
import mimetypes
from typing import TYPE_CHECKING

from batchrun.server.protocol.items import content_parts
from batchrun.server.responders.base import ResponderError
from batchrun.server.search.file_search import ExtractionError
from batchrun.server.store.kinds import FILE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batchrun.server.execution.parts import Parts
    from batchrun.server.protocol.bodies import Body

__all__ = ["image_url", "read_files"]


def image_url(parts: Parts, owner: str, file_id: str) -> str | None:
    """Return an image file of the owner as a `data:` URL; None if it was deleted."""
    file = parts.objects.find(FILE, owner, file_id)
    if file is None:
        return None
    kind = mimetypes.guess_type(file["filename"])[0] or "image/png"
    return f"data:{kind};base64,{base64.b64encode(parts.blobs.read(file_id)).decode()}"


async def read_files(parts: Parts, owner: str, items: Iterable[Body]) -> dict[str, str]:
    """Return file id → content, for all files that the items name and the owner has.

    Raises:
        ResponderError: the text of a file cannot be extracted.
    """
    found: dict[str, str] = {}
    for item in items:
        for part in content_parts(item):
            file_id = part.get("file_id") or ""
            file = parts.objects.find(FILE, owner, file_id) if file_id else None
            if file is None:
                continue
            if part["type"] == "input_image":
                found[file_id] = image_url(parts, owner, file_id) or ""
            else:
                name = file["filename"]
                found[file_id] = f"{name}:\n\n{await _text(parts, name, parts.blobs.read(file_id))}"
    return found


async def _text(parts: Parts, filename: str, data: bytes) -> str:
    try:
        return await parts.reader.text(filename, data)
    except ExtractionError as exc:
        raise ResponderError(str(exc), code="invalid_prompt", status_code=400) from exc
