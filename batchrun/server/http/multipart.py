"""Multipart uploads, read within their size limits."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from batchrun.server.errors import ApiError, bad_value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Message, Receive, Scope

__all__ = ["Upload", "read_upload"]

_FORM_OVERHEAD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded file and the other fields of its form.

    Attributes:
        content: the file, positioned at its start; a temporary file if it is large.
        size: size in bytes.
        digest: SHA-256 of the fields and the content; it does not depend on the multipart boundary.
    """

    fields: dict[str, str]
    filename: str
    content: BinaryIO
    size: int
    digest: bytes


@asynccontextmanager
async def read_upload(scope: Scope, receive: Receive, limit: int, part: str) -> AsyncIterator[Upload]:
    """Yield the file of a form, which is in this part. The content can be read inside the context.

    Raises:
        ApiError: 413: the file exceeds `limit` bytes. 400: the form cannot be read or has no file.
    """
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit + _FORM_OVERHEAD_BYTES:
            # Starlette closes the parts that it has read only for its own exception.
            raise MultiPartException("too large")
        return message

    request = Request(scope, bounded)
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise ApiError(400, f"Invalid body: expected multipart/form-data with the part '{part}'.")
    try:
        form = await request.form(max_files=1, max_fields=20)
    except HTTPException as exc:
        if received > limit + _FORM_OVERHEAD_BYTES:
            raise too_large(limit) from None
        raise ApiError(400, f"The form cannot be read: {exc.detail}") from exc
    try:
        yield _upload(form, limit, part)
    finally:
        await form.close()


def _upload(form: FormData, limit: int, part: str) -> Upload:
    file = form.get(part)
    if not isinstance(file, UploadFile):
        raise ApiError(400, f"Missing required parameter: '{part}'.", param=part, code="missing_required_parameter")
    if not file.filename:
        raise bad_value(part, f"Invalid '{part}': expected a part with a file name.")
    if (file.size or 0) > limit:
        raise too_large(limit)
    fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
    return Upload(fields, file.filename, file.file, file.size or 0, _digest(fields, file.filename, file.file))


def _digest(fields: dict[str, str], filename: str, content: Any) -> bytes:
    digest = hashlib.sha256(repr((sorted(fields.items()), filename)).encode("utf-8", "replace"))
    while piece := content.read(1 << 20):
        digest.update(piece)
    content.seek(0)
    return digest.digest()


def too_large(limit: int) -> ApiError:
    """413: the file exceeds the limit."""
    return ApiError(413, f"The file is larger than the maximum of {limit} bytes.", param="file", code="file_too_large")
