"""Uploaded files in the input of responses, and files inside chat completions."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.integration.server.conftest import Running
from tests.unit.server.search.test_extraction import needs_pypdf, pdf

Start = Callable[..., Running]

PNG = b"\x89PNG\r\n\x1a\n"


def ask(running: Running, *parts: Any, **options: Any) -> Any:
    content = [*parts, {"type": "input_text", "text": "What is this?"}]
    return running.client.responses.create(model="scripted-1", input=[{"role": "user", "content": content}], **options)


def upload(running: Running, name: str, data: bytes) -> str:
    return running.client.files.create(file=(name, data), purpose="user_data").id


def test_a_file_is_read_as_text(shared: Running) -> None:
    """The responder reads an uploaded file's text, with its name, before the question."""
    file_id = upload(shared, "notes.md", b"# Notes\n\nDahlias")
    response = ask(shared, {"type": "input_file", "file_id": file_id})
    assert response.output_text == "You said: notes.md:\n\n# Notes\n\nDahlias\nWhat is this?"
    (item,) = shared.client.responses.input_items.list(response.id).data
    assert item.to_dict()["content"][0]["file_id"] == file_id  # type: ignore[index]  # an object's fields


def test_an_image_by_its_id_reaches_the_responder(shared: Running) -> None:
    """An uploaded image reaches the responder as a data URL, even in a later turn of the chain."""
    file_id = upload(shared, "dot.png", PNG)
    first = ask(shared, {"type": "input_image", "file_id": file_id, "detail": "low"})
    shared.client.responses.create(model="scripted-1", input="And?", previous_response_id=first.id)
    asked = shared.responder.asked[-1]
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert asked.messages[0].content == [
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
        {"type": "text", "text": "What is this?"},
    ]
    assert asked.messages[0].text == "What is this?"


def test_a_missing_file(shared: Running) -> None:
    """A file that does not exist is refused; a file that is deleted later is replaced by a note with its id."""
    with pytest.raises(openai.NotFoundError, match="No file found with id 'file-x'"):
        ask(shared, {"type": "input_file", "file_id": "file-x"})
    file_id = upload(shared, "notes.md", b"Dahlias")
    first = ask(shared, {"type": "input_file", "file_id": file_id})
    shared.client.files.delete(file_id)
    shared.client.responses.create(model="scripted-1", input="And?", previous_response_id=first.id)
    assert shared.responder.asked[-1].messages[0].text == f"[{file_id} is gone]\nWhat is this?"


def test_a_file_without_text_fails_the_response(shared: Running) -> None:
    """An unreadable file fails the response, with the file's name in the error."""
    response = ask(shared, {"type": "input_file", "file_id": upload(shared, "a.bin", b"\0\1\2")})
    assert response.status == "failed"
    assert response.error.code == "invalid_prompt"
    assert "a.bin" in response.error.message


NOTES = base64.b64encode(b"# Notes\n\nDahlias").decode()


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (
            {"filename": "notes.md", "file_data": f"data:text/markdown;base64,{NOTES}"},
            "notes.md:\n\n# Notes\n\nDahlias",
        ),
        ({"file_data": f"data:text/plain;charset=utf-8;base64,{NOTES}"}, "file.txt:\n\n# Notes\n\nDahlias"),
        ({"filename": "notes.md", "file_data": NOTES}, "notes.md:\n\n# Notes\n\nDahlias"),
    ],
)
def test_a_file_can_be_part_of_the_request(shared: Running, part: dict[str, Any], text: str) -> None:
    """The text of a file that is sent as base64, with or without its media type, is read in this turn and in later ones."""
    response = ask(shared, {"type": "input_file", **part})
    assert response.output_text == f"You said: {text}\nWhat is this?"
    (item,) = shared.client.responses.input_items.list(response.id).data
    assert item.to_dict()["content"][0] == {"type": "input_file", **part}  # type: ignore[index]  # an object's fields
    shared.client.responses.create(model="scripted-1", input="And?", previous_response_id=response.id)
    assert shared.responder.asked[-1].messages[0].text == f"{text}\nWhat is this?"


@needs_pypdf
def test_a_document_in_a_request_is_read(shared: Running) -> None:
    """A PDF in a request is read like an uploaded one."""
    data = f"data:application/pdf;base64,{base64.b64encode(pdf('Dahlias')).decode()}"
    response = ask(shared, {"type": "input_file", "filename": "notes.pdf", "file_data": data})
    assert response.output_text == "You said: notes.pdf:\n\nDahlias\nWhat is this?"


@pytest.mark.parametrize(
    ("part", "param", "message"),
    [
        (
            {"file_url": "https://example.org/a.pdf"},
            ".file_url",
            "'file_url' is not supported: this server fetches nothing",
        ),
        ({"filename": "a.pdf"}, "", "needs 'file_id' or 'file_data'"),
        ({"file_id": "file-1", "file_data": NOTES}, "", "and not both"),
        ({"file_data": "data:text/plain,Dahlias"}, ".file_data", "expected base64"),
        ({"file_data": "***"}, ".file_data", "expected base64"),
    ],
)
def test_a_file_without_readable_content_is_refused(
    shared: Running, part: dict[str, Any], param: str, message: str
) -> None:
    """A file by URL, without content, with two contents or with another encoding is refused, and the parameter named."""
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        ask(shared, {"type": "input_file", **part})
    assert caught.value.param == f"input[0].content[0]{param}"


def test_a_chat_with_a_file(shared: Running) -> None:
    """A file inside a chat completion reaches the responder unchanged."""
    file: Any = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}
    shared.client.chat.completions.create(
        model="scripted-1", messages=[{"role": "user", "content": [file, {"type": "text", "text": "What?"}]}]
    )
    assert shared.responder.asked[-1].messages[0].content == [file, {"type": "text", "text": "What?"}]
