"""Multipart uploads, read within their bounds."""

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
    """One uploaded file and the fields beside it.

    Attributes:
        content: at its start; a temporary file where it is large.
        size: bytes.
        digest: SHA-256 of the fields and the content, whatever the multipart boundary was.
    """

    fields: dict[str, str]
    filename: str
    content: BinaryIO
    size: int
    digest: bytes


@asynccontextmanager
async def read_upload(scope: Scope, receive: Receive, limit: int) -> AsyncIterator[Upload]:
    """The form with its file, `file`; its content can be read until the context is left.

    Raises:
        ApiError: 413 for more than `limit` bytes, 400 for a form that cannot be read or has no file.
    """
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit + _FORM_OVERHEAD_BYTES:
            # Starlette closes the parts read so far for its own exception only.
            raise MultiPartException("too large")
        return message

    request = Request(scope, bounded)
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise ApiError(400, "Expected a body of type multipart/form-data with the parts 'file' and 'purpose'.")
    try:
        form = await request.form(max_files=1, max_fields=20)
    except HTTPException as exc:
        if received > limit + _FORM_OVERHEAD_BYTES:
            raise too_large(limit) from None
        raise ApiError(400, f"The form could not be read: {exc.detail}") from exc
    try:
        yield _upload(form, limit)
    finally:
        await form.close()


def _upload(form: FormData, limit: int) -> Upload:
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise ApiError(400, "Missing required parameter: 'file'.", param="file", code="missing_required_parameter")
    if not file.filename:
        raise bad_value("file", "Invalid 'file': expected a part with a file name.")
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
    """413 for a file beyond the limit."""
    return ApiError(413, f"The file is larger than the maximum of {limit} bytes.", param="file", code="file_too_large")
