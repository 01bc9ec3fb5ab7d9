"""Files that are uploaded in parts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from openai import APIStatusError, BadRequestError, NotFoundError, OpenAI

from tests.integration.server.conftest import Running

Start = Callable[..., Running]
CONTENT = b"0123456789" * 3


def test_a_file_in_parts(start: Start) -> None:
    """The SDK's upload in chunks gives a file with the whole content, and the parts are gone."""
    running = start()
    upload = running.client.uploads.upload_file_chunked(
        file=CONTENT, filename="a.txt", bytes=len(CONTENT), mime_type="text/plain", purpose="assistants", part_size=7
    )
    assert (upload.status, upload.file and upload.file.filename) == ("completed", "a.txt")
    assert upload.file is not None
    assert running.client.files.content(upload.file.id).content == CONTENT
    with pytest.raises(BadRequestError, match="is completed; create a new one"):
        running.client.uploads.parts.create(upload.id, data=b"more")


def test_parts_are_joined_in_the_order_of_their_ids(start: Start) -> None:
    """The order of `part_ids` decides, and a wrong size, checksum or part is refused without an end of the upload."""
    uploads = start().client.uploads
    upload = uploads.create(bytes=4, filename="a.txt", mime_type="text/plain", purpose="user_data")
    second, first = (uploads.parts.create(upload.id, data=data).id for data in (b"cd", b"ab"))
    with pytest.raises(BadRequestError, match="the parts have 2 bytes together, and the upload was created for 4"):
        uploads.complete(upload.id, part_ids=[first])
    with pytest.raises(BadRequestError, match="Invalid 'md5'"):
        uploads.complete(upload.id, part_ids=[first, second], md5="0" * 32)
    with pytest.raises(BadRequestError, match="a part is named twice"):
        uploads.complete(upload.id, part_ids=[first, first])
    with pytest.raises(NotFoundError, match="No upload part found"):
        uploads.complete(upload.id, part_ids=[first, "part_other"])
    digest = hashlib.md5(b"abcd", usedforsecurity=False).hexdigest()
    assert uploads.complete(upload.id, part_ids=[first, second], md5=digest).status == "completed"


def test_an_upload_can_be_cancelled_and_expires(start: Start) -> None:
    """A cancelled upload takes no parts, an upload expires after an hour, and other keys do not see it."""
    running = start(api_keys=("one", "two"), key="one")
    uploads = running.client.uploads

    def new() -> str:
        return uploads.create(bytes=1, filename="a.txt", mime_type="text/plain", purpose="assistants").id

    cancelled, forgotten = new(), new()
    assert uploads.cancel(cancelled).status == "cancelled"
    with OpenAI(base_url=running.url, api_key="two", max_retries=0) as other, pytest.raises(NotFoundError):
        other.uploads.cancel(forgotten)
    running.clock.advance(3601)
    new()
    for upload_id, status in ((cancelled, "cancelled"), (forgotten, "expired")):
        with pytest.raises(BadRequestError, match=f"is {status}"):
            uploads.parts.create(upload_id, data=b"a")


def test_a_file_that_is_too_large(start: Start) -> None:
    """An upload for more than the largest file is refused at once, and so are parts beyond it."""
    uploads = start(max_upload_bytes=5).client.uploads
    options: Any = {"filename": "a.txt", "mime_type": "text/plain"}
    with pytest.raises(APIStatusError, match="larger than the maximum of 5 bytes"):
        uploads.create(bytes=6, purpose="assistants", **options)
    upload = uploads.create(bytes=5, purpose="assistants", **options)
    uploads.parts.create(upload.id, data=b"abc")
    with pytest.raises(APIStatusError, match="larger than the maximum of 5 bytes"):
        uploads.parts.create(upload.id, data=b"def")
