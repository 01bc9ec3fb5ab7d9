"""The operations of /uploads: a file that arrives in parts."""

from __future__ import annotations

import hashlib
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from batchrun.server.errors import ApiError, bad_value, no_such
from batchrun.server.execution.stored_files import add_file
from batchrun.server.http.endpoint import operation
from batchrun.server.http.multipart import too_large
from batchrun.server.protocol.ids import new_id
from batchrun.server.protocol.requests.uploads import CompleteUpload, CreateUpload
from batchrun.server.replies.replies import Json, json_reply
from batchrun.server.store.kinds import UPLOAD, UPLOAD_PART

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from batchrun.server.http.endpoint import Call
    from batchrun.server.http.multipart import Upload
    from batchrun.server.protocol.bodies import Body

__all__ = ["OPERATIONS"]

_LIFE_S = 3600
"""Lifetime of an upload that is not completed, as the hosted API's."""

_MAX_PART_BYTES = 64 * 1024 * 1024


def create_upload(call: Call, request: CreateUpload) -> Json:
    limit = call.parts.settings.max_upload_bytes
    if request.bytes > limit:
        raise too_large(limit)
    now = call.parts.now()
    _forget_expired(call, now)
    body: Body = {
        "id": new_id("upload_"),
        "object": "upload",
        "bytes": request.bytes,
        "created_at": now,
        "expires_at": now + _LIFE_S,
        "filename": request.filename.replace("\\", "/").rpartition("/")[2] or "file",
        "purpose": request.purpose,
        "status": "pending",
        "file": None,
    }
    life_s = request.expires_after.seconds if request.expires_after else None
    call.objects.add(UPLOAD, call.owner, body, status="pending", active=True, hidden={"file_life_s": life_s})
    return json_reply(body)


def _forget_expired(call: Call, now: int) -> None:
    """End the uploads of all owners that were left unfinished, so that their parts do not fill the disk."""
    for owner, body in call.objects.active(UPLOAD):
        if body["expires_at"] <= now:
            _end(call, owner, body, "expired")


def _end(call: Call, owner: str, body: Body, status: str) -> None:
    """Store the last state of an upload, and remove its parts."""
    body["status"] = status
    call.objects.save(body, status=status)
    for part in call.objects.children(owner, UPLOAD_PART, body["id"]):
        call.parts.blobs.remove(part["id"])
    call.objects.remove_children(owner, UPLOAD_PART, body["id"])


def _pending(call: Call) -> Body:
    """Return the upload, which still takes parts.

    Raises:
        ApiError: 404: there is none. 400: it was completed or cancelled, or has expired.
    """
    body = call.objects.get(UPLOAD, call.owner, call.path["upload_id"])
    status = "expired" if body["status"] == "pending" and body["expires_at"] <= call.parts.now() else body["status"]
    if status != "pending":
        raise ApiError(400, f"Upload {body['id']} is {status}; create a new one.", code="invalid_upload_status")
    return body


def add_upload_part(call: Call, upload: Upload) -> Json:
    body = _pending(call)
    if upload.size > _MAX_PART_BYTES:
        raise too_large(_MAX_PART_BYTES)
    received = sum(
        call.parts.blobs.size(part["id"]) for part in call.objects.children(call.owner, UPLOAD_PART, body["id"])
    )
    if received + upload.size > call.parts.settings.max_upload_bytes:
        raise too_large(call.parts.settings.max_upload_bytes)
    part: Body = {
        "id": new_id("part_"),
        "object": "upload.part",
        "created_at": call.parts.now(),
        "upload_id": body["id"],
    }
    call.objects.add(UPLOAD_PART, call.owner, part, parent=body["id"])
    call.parts.blobs.add(part["id"], upload.content, upload.size)
    return json_reply(part)


def complete_upload(call: Call, request: CompleteUpload) -> Json:
    body = _pending(call)
    if len(set(request.part_ids)) < len(request.part_ids):
        raise bad_value("part_ids", "Invalid 'part_ids': a part is named twice.")
    for part_id in request.part_ids:
        if call.objects.find(UPLOAD_PART, call.owner, part_id, parent=body["id"]) is None:
            raise no_such("upload part", part_id)
    with TemporaryFile() as content:
        size, digest = _joined(call, request.part_ids, content)
        if size != body["bytes"]:
            raise bad_value(
                "part_ids",
                f"Invalid 'part_ids': the parts have {size} bytes together, and the upload was created for "
                f"{body['bytes']}.",
            )
        if request.md5 is not None and request.md5.lower() != digest:
            raise bad_value("md5", f"Invalid 'md5': the parts have the checksum {digest}.")
        content.seek(0)
        life_s = call.objects.upload_hidden(body["id"])["file_life_s"]
        expires_at = None if life_s is None else call.parts.now() + life_s
        body["file"] = add_file(call.parts, call.owner, body["filename"], body["purpose"], content, size, expires_at)
    _end(call, call.owner, body, "completed")
    return json_reply(body)


def _joined(call: Call, part_ids: Sequence[str], target: BinaryIO) -> tuple[int, str]:
    """Write the parts to `target`, in this order, and return their size and MD5."""
    size, digest = 0, hashlib.md5(usedforsecurity=False)
    for part_id in part_ids:
        for piece in call.parts.blobs.pieces(part_id):
            size += len(piece)
            digest.update(piece)
            target.write(piece)
    return size, digest.hexdigest()


def cancel_upload(call: Call) -> Json:
    body = _pending(call)
    _end(call, call.owner, body, "cancelled")
    return json_reply(body)


_ONE = "/uploads/{upload_id}"

OPERATIONS = (
    operation("POST", "/uploads", create_upload, CreateUpload, beta=False),
    operation("POST", f"{_ONE}/parts", add_upload_part, beta=False, upload="data"),
    operation("POST", f"{_ONE}/complete", complete_upload, CompleteUpload, beta=False),
    operation("POST", f"{_ONE}/cancel", cancel_upload, beta=False),
)
