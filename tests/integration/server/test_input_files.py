"""Uploaded files in the input of responses, and files inside chat completions."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.integration.server.conftest import Running

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


def test_other_ways_to_give_a_file_are_refused(shared: Running) -> None:
    """Files by URL or as data are refused: the server fetches nothing."""
    with pytest.raises(openai.BadRequestError):
        ask(shared, {"type": "input_file", "file_url": "https://example.org/a.pdf"})


def test_a_chat_with_a_file(shared: Running) -> None:
    """A file inside a chat completion reaches the responder unchanged."""
    file: Any = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}
    shared.client.chat.completions.create(
        model="scripted-1", messages=[{"role": "user", "content": [file, {"type": "text", "text": "What?"}]}]
    )
    assert shared.responder.asked[-1].messages[0].content == [file, {"type": "text", "text": "What?"}]
