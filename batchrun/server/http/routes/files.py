"""The operations of /files."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from batchrun.server.errors import ApiError, bad_value
from batchrun.server.execution.stored_files import add_file
from batchrun.server.execution.vector_stores import drop_from_store
from batchrun.server.http.endpoint import operation
from batchrun.server.protocol.requests.uploads import Purpose
from batchrun.server.replies.replies import Json, Pieces, json_reply
from batchrun.server.store.kinds import FILE, VECTOR_STORE_FILE

if TYPE_CHECKING:
    from batchrun.server.http.endpoint import Call
    from batchrun.server.http.multipart import Upload
    from batchrun.server.protocol.bodies import FileBody

__all__ = ["OPERATIONS"]

PURPOSES = get_args(Purpose)


def upload_file(call: Call, upload: Upload) -> Json:
    purpose = upload.fields.get("purpose")
    if purpose is None:
        raise ApiError(
            400, "Missing required parameter: 'purpose'.", param="purpose", code="missing_required_parameter"
        )
    if purpose not in PURPOSES:
        raise bad_value("purpose", f"Invalid value: '{purpose}'. Supported values are: {', '.join(PURPOSES)}.")
    expires_at = None
    if "expires_after[seconds]" in upload.fields:
        expires_at = call.parts.now() + _expiry_seconds(upload.fields)
    filename = upload.filename.replace("\\", "/").rpartition("/")[2] or "file"
    return json_reply(add_file(call.parts, call.owner, filename, purpose, upload.content, upload.size, expires_at))


def _expiry_seconds(fields: dict[str, str]) -> int:
    text = fields["expires_after[seconds]"]
    if not (text.isascii() and text.isdigit() and 3600 <= int(text[:10]) <= 2_592_000):
        raise bad_value(
            "expires_after.seconds",
            f"Invalid 'expires_after.seconds': expected an integer from 3600 to 2592000, but got '{text}'.",
        )
    return int(text)


def list_files(call: Call) -> Json:
    page = call.page(max_limit=10_000, default_limit=10_000)
    return Json(text=call.objects.page(FILE, call.owner, page, run=call.one("purpose")))


def _find(call: Call) -> FileBody:
    return call.objects.get(FILE, call.owner, call.path["file_id"])


def retrieve_file(call: Call) -> Json:
    return json_reply(_find(call))


def retrieve_content(call: Call) -> Pieces:
    file_id, blobs = _find(call)["id"], call.parts.blobs
    return Pieces(size=blobs.size(file_id), pieces=blobs.pieces(file_id))


def delete_file(call: Call) -> Json:
    parts = call.parts
    file_id = _find(call)["id"]
    stores = parts.objects.holders(call.owner, VECTOR_STORE_FILE, f"%/{file_id}")
    if any(status == "in_progress" for _, status in stores):
        raise ApiError(409, f"File {file_id} is still being processed; delete it when its processing has finished.")
    for store_id, _ in stores:
        drop_from_store(parts, call.owner, store_id, file_id)
    parts.objects.remove(file_id)
    parts.blobs.remove(file_id)
    return json_reply({"id": file_id, "object": "file", "deleted": True})


OPERATIONS = (
    operation("POST", "/files", upload_file, beta=False, upload="file"),
    operation("GET", "/files", list_files, beta=False),
    operation("GET", "/files/{file_id}", retrieve_file, beta=False),
    operation("GET", "/files/{file_id}/content", retrieve_content, beta=False),
    operation("DELETE", "/files/{file_id}", delete_file, beta=False),
)
