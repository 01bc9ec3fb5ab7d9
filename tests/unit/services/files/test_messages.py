"""Messages with files in the form of each protocol."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import PermanentFault
from batchrun.prompts.attachments import Attachments
from batchrun.records import Attachment, Turn
from batchrun.services.files.messages import MAX_INLINE_BYTES, assistants_message, chat_content, responses_message
from tests.support.filing import Filing

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n"
PDF = b"%PDF-1.7\n"
URL = "https://example.org/"


def turn(folder: Path, text: str = "What is this?", /, **contents: bytes) -> Turn:
    """Return a turn with local files, by name (underscores become dots)."""
    for name, content in contents.items():
        (folder / name.replace("_", ".")).write_bytes(content)
    cell = [name.replace("_", ".") for name in contents]
    return Turn(text, attachments=Attachments().of_cell(cell, folder))


def urls(*names: str) -> Turn:
    return Turn("Look.", attachments=Attachments().of_cell([URL + name for name in names], Path()))


async def test_nothing_attached_is_plain_text(service: Filing, tmp_path: Path) -> None:
    """Rows without files are plain text."""
    plain, uploads = Turn("Hello"), service.uploads()
    assert await assistants_message(plain, uploads) == {"role": "user", "content": "Hello"}
    assert await chat_content(plain, tmp_path) == "Hello"
    assert service.limits.requests == 0


# -- assistants -------------------------------------------------------------------------------------------------


async def test_a_message_with_an_image_and_a_file(service: Filing, tmp_path: Path) -> None:
    """Images are parts before the text and files are attached for search; the server accepts the message."""
    uploads = service.uploads()
    message = await assistants_message(turn(tmp_path, photo_png=PNG, notes_md=b"# Notes"), uploads)
    ids = {name: file_id for file_id, name in uploads.names.items()}
    assert message == {
        "role": "user",
        "content": [
            {"type": "image_file", "image_file": {"file_id": ids["photo.png"]}},
            {"type": "text", "text": "What is this?"},
        ],
        "attachments": [{"file_id": ids["notes.md"], "tools": [{"type": "file_search"}]}],
    }
    assert {file.filename: file.purpose for file in service.client.files.list()} == {
        "photo.png": "vision",
        "notes.md": "assistants",
    }
    made = await service.wire.post("/threads", {"messages": [message]}, {"OpenAI-Beta": "assistants=v2"})
    thread, _ = await service.wire.get(f"/threads/{made['id']}", {"OpenAI-Beta": "assistants=v2"})
    assert thread["tool_resources"]["file_search"]["vector_store_ids"]


async def test_the_code_interpreter_gets_every_file(service: Filing, tmp_path: Path) -> None:
    """With the code interpreter, tables are attached for it alone, and texts for file search as well."""
    message = await assistants_message(
        turn(tmp_path, data_csv=b"a,b", notes_MD=b"x"), service.uploads(), code_interpreter=True
    )
    tools = [[tool["type"] for tool in each["tools"]] for each in message["attachments"]]
    assert tools == [["code_interpreter"], ["file_search", "code_interpreter"]]


async def test_assistants_take_images_by_url_and_no_files(service: Filing) -> None:
    """An image's URL is passed on; a file's URL fails the row, and the message names the protocol for it."""
    message = await assistants_message(urls("a.png"), service.uploads())
    assert message["content"][0] == {"type": "image_url", "image_url": {"url": URL + "a.png"}}
    with pytest.raises(PermanentFault, match=r"a\.pdf': --api assistants accepts only images by URL") as caught:
        await assistants_message(urls("a.png", "a.pdf"), service.uploads())
    assert caught.value.error_type == "bad_attachment"


# -- responses --------------------------------------------------------------------------------------------------


async def test_an_input_with_images_and_files(service: Filing, tmp_path: Path) -> None:
    """Local files are uploaded for their purpose, URLs are passed on, and the text comes last."""
    uploads = service.uploads()
    local = turn(tmp_path, photo_png=PNG, report_pdf=PDF)
    both = Turn(local.text, attachments=(*local.attachments, *urls("b.jpg", "b.docx").attachments))
    given: Any = await responses_message(both, uploads)
    ids = {name: file_id for file_id, name in uploads.names.items()}
    assert given == {
        "role": "user",
        "content": [
            {"type": "input_image", "detail": "auto", "file_id": ids["photo.png"]},
            {"type": "input_file", "file_id": ids["report.pdf"]},
            {"type": "input_image", "detail": "auto", "image_url": URL + "b.jpg"},
            {"type": "input_file", "file_url": URL + "b.docx"},
            {"type": "input_text", "text": "What is this?"},
        ],
    }
    assert {file.filename: file.purpose for file in service.client.files.list()} == {
        "photo.png": "vision",
        "report.pdf": "user_data",
    }


# -- chat -------------------------------------------------------------------------------------------------------


async def test_a_chat_message_holds_its_files(tmp_path: Path) -> None:
    """Images and PDFs are inside the request, and nothing is uploaded."""
    content = await chat_content(turn(tmp_path, a_png=PNG, b_jpeg=b"\xff\xd8", c_pdf=PDF), tmp_path)
    pdf = "data:application/pdf;base64," + base64.b64encode(PDF).decode()
    assert content == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(PNG).decode()}},
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9g="}},
        {"type": "file", "file": {"filename": "c.pdf", "file_data": pdf}},
        {"type": "text", "text": "What is this?"},
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
async def test_text_is_read_into_the_text(tmp_path: Path, encoding: str) -> None:
    """A text file comes before the prompt, under its name, so that every model reads it."""
    content = await chat_content(turn(tmp_path, notes_md="Über uns".encode(encoding), b_x=b"two"), tmp_path)
    assert content == "notes.md:\n\nÜber uns\n\nb.x:\n\ntwo\n\nWhat is this?"


async def test_text_and_image_together(tmp_path: Path) -> None:
    """With an image, the text is one part, the last."""
    content = await chat_content(turn(tmp_path, notes_md=b"one", a_png=PNG), tmp_path)
    assert isinstance(content, list)
    assert [part["type"] for part in content] == ["image_url", "text"]
    assert content[1]["text"] == "notes.md:\n\none\n\nWhat is this?"


@pytest.mark.parametrize("content", [b"PK\x03\x04\xff", b"\xff\xfe\x00", b"a\0b"])
async def test_chat_refuses_what_no_model_reads(tmp_path: Path, content: bytes) -> None:
    """A file that is not an image, a PDF or text fails the row, and the message names the protocol for it."""
    with pytest.raises(PermanentFault, match="--api chat accepts images, PDFs and text; use --api responses") as caught:
        await chat_content(turn(tmp_path, a_xlsx=content), tmp_path)
    assert caught.value.error_type == "bad_attachment"


async def test_chat_takes_no_file_by_url(tmp_path: Path) -> None:
    """An image's URL is passed on; a file's URL fails the row."""
    content = await chat_content(urls("a.png"), tmp_path)
    assert content == [
        {"type": "image_url", "image_url": {"url": URL + "a.png"}},
        {"type": "text", "text": "Look."},
    ]
    with pytest.raises(PermanentFault, match="accepts only images by URL; give the file by its path"):
        await chat_content(urls("a.pdf"), tmp_path)


async def test_chat_bounds_what_goes_inside_a_request(tmp_path: Path) -> None:
    """A file too large for a request fails its row before anything is sent."""
    with (tmp_path / "big.txt").open("wb") as file:
        file.truncate(MAX_INLINE_BYTES + 1)
    with pytest.raises(PermanentFault, match="has more than 20,971,520 bytes"):
        await chat_content(Turn("?", attachments=Attachments().of_cell("big.txt", tmp_path)), tmp_path)


async def test_chat_sends_no_other_content_than_the_prompt_stands_for(tmp_path: Path) -> None:
    """A file that has changed since the batch read it fails its row."""
    (tmp_path / "a.md").write_bytes(b"new")
    old = Attachment("a.md", "file", hashlib.sha256(b"old").hexdigest())
    with pytest.raises(PermanentFault, match="the file has changed since"):
        await chat_content(Turn("?", attachments=(old,)), tmp_path)
