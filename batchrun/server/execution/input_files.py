"""Files of a request in the form that a responder reads: images as URLs, all others as text."""

from __future__ import annotations

import base64
import mimetypes
from typing import TYPE_CHECKING

from batchrun.server.protocol.items import content_parts, file_key
from batchrun.server.protocol.requests.input_items import file_content
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
    """Return key of a file → content, for all files that the items hold, or name and the owner has.

    Raises:
        ResponderError: the text of a file cannot be extracted.
    """
    found: dict[str, str] = {}
    for item in items:
        for part in content_parts(item):
            key = file_key(part)
            named = _named_content(parts, owner, part) if key and key not in found else None
            if named is None:
                continue
            if part["type"] == "input_image":
                found[key] = image_url(parts, owner, key) or ""
            else:
                name, data = named
                found[key] = f"{name}:\n\n{await _text(parts, name, data)}"
    return found


def _named_content(parts: Parts, owner: str, part: Body) -> tuple[str, bytes] | None:
    """Return name and bytes of a part's file; None if it was deleted."""
    if part.get("file_id"):
        file = parts.objects.find(FILE, owner, part["file_id"])
        return None if file is None else (file["filename"], parts.blobs.read(part["file_id"]))
    kind, data = file_content(part["file_data"])
    return part.get("filename") or f"file{mimetypes.guess_extension(kind) or ''}", data


async def _text(parts: Parts, filename: str, data: bytes) -> str:
    try:
        return await parts.reader.text(filename, data)
    except ExtractionError as exc:
        raise ResponderError(str(exc), code="invalid_prompt", status_code=400) from exc
