"""A user message with its files, as each protocol wants it.

What is attached goes before the text: rows that share a file then share the beginning of their prompts, which services
bill less for. Where nothing is attached, the message is the plain text.
"""

from __future__ import annotations

import base64
import codecs
from pathlib import Path
from typing import Any

import anyio.to_thread

from batchrun.prompts.local_files import IMAGE_TYPES
from batchrun.records import Attachment, Turn
from batchrun.services.files.uploads import SEARCHED, Uploads, attachment_fault, opened

__all__ = ["assistants_message", "chat_content", "responses_input", "tools_for"]

MAX_INLINE_BYTES = 20 * 1024 * 1024
"""What a file may have that goes inside a request; services take requests of some 30 to 50 MB."""

_SEARCHABLE = frozenset(
    {
        *(".c", ".cpp", ".cs", ".css", ".go", ".html", ".java", ".js", ".json", ".md", ".php", ".py", ".rb", ".sh"),
        *(".tex", ".ts", ".txt", ".doc", ".docx", ".pdf", ".pptx"),
    }
)
"""Endings of the files that the Assistants API's file search takes."""


async def assistants_message(turn: Turn, uploads: Uploads, *, code_interpreter: bool = False) -> dict[str, Any]:
    """A message of a thread: images as parts, files as attachments to search, or to compute with.

    Args:
        code_interpreter: the assistant has that tool too: it gets every file, and the search those that it can read.

    Raises:
        ServiceFault: a file cannot be uploaded, or not now, or the protocol does not take it.
    """
    parts: list[dict[str, Any]] = []
    attachments: list[dict[str, Any]] = []
    for each in turn.attachments:
        if each.kind == "image":
            if each.sha256 is None:
                parts.append({"type": "image_url", "image_url": {"url": each.source}})
            else:
                file_id = await uploads.file_id(each, "vision")
                parts.append({"type": "image_file", "image_file": {"file_id": file_id}})
        elif each.sha256 is None:
            raise attachment_fault(
                f"attachment {each.source!r}: assistants take files by path only, and images by URL; "
                "--api responses takes this"
            )
        else:
            tools = tools_for(each, code_interpreter=code_interpreter)
            attachments.append({"file_id": await uploads.file_id(each, SEARCHED), "tools": tools})
    message: dict[str, Any] = {"role": "user", "content": turn.text}
    if parts:
        message["content"] = [*parts, {"type": "text", "text": turn.text}]
    if attachments:
        message["attachments"] = attachments
    return message


def tools_for(attachment: Attachment, *, code_interpreter: bool) -> list[dict[str, str]]:
    """The tools of an assistant that work on an attached file; none for an image, which the model sees."""
    if attachment.kind == "image":
        return []
    tools = [{"type": "file_search"}]
    if code_interpreter:
        tools.append({"type": "code_interpreter"})
        if Path(attachment.source).suffix.lower() not in _SEARCHABLE:
            del tools[0]
    return tools


async def responses_input(turn: Turn, uploads: Uploads) -> str | list[dict[str, Any]]:
    """The `input` of a response. A container of the code interpreter gets its files by itself.

    Raises:
        ServiceFault: a file cannot be uploaded, or not now.
    """
    if not turn.attachments:
        return turn.text
    parts: list[dict[str, Any]] = []
    for each in turn.attachments:
        if each.kind == "image":
            place = {"image_url": each.source} if each.sha256 is None else await _by_id(each, uploads, "vision")
            parts.append({"type": "input_image", "detail": "auto", **place})
        else:
            place = {"file_url": each.source} if each.sha256 is None else await _by_id(each, uploads, "user_data")
            parts.append({"type": "input_file", **place})
    return [{"role": "user", "content": [*parts, {"type": "input_text", "text": turn.text}]}]


async def _by_id(attachment: Attachment, uploads: Uploads, purpose: str) -> dict[str, str]:
    return {"file_id": await uploads.file_id(attachment, purpose)}


async def chat_content(turn: Turn, folder: Path) -> str | list[dict[str, Any]]:
    """The `content` of a message of Chat Completions, which holds its files: servers of that protocol store none.

    Text goes into the text, which every model reads; images and PDFs become parts.

    Args:
        folder: where relative paths of attachments begin.

    Raises:
        PermanentFault: a file is of a kind, or a size, that the protocol does not take, or not what it was.
    """
    parts: list[dict[str, Any]] = []
    texts: list[str] = []
    for each in turn.attachments:
        if each.sha256 is None:
            if each.kind != "image":
                raise attachment_fault(
                    f"attachment {each.source!r}: chat completions take files by path only, and images by URL; "
                    "--api responses takes this"
                )
            parts.append({"type": "image_url", "image_url": {"url": each.source}})
            continue
        name = Path(each.source).name.encode("utf-8", "replace").decode()
        data = await anyio.to_thread.run_sync(_content, folder / each.source, each.sha256)
        if each.kind == "image":
            kind = IMAGE_TYPES[Path(name).suffix.lower()]
            parts.append({"type": "image_url", "image_url": {"url": _data_url(kind, data)}})
        elif data.startswith(b"%PDF-"):
            parts.append({"type": "file", "file": {"filename": name, "file_data": _data_url("application/pdf", data)}})
        else:
            texts.append(f"{name}:\n\n{_text(data, each)}")
    text = "\n\n".join([*texts, turn.text])
    return [*parts, {"type": "text", "text": text}] if parts else text


def _content(path: Path, sha256: str) -> bytes:
    with opened(path, sha256) as file:
        data = file.read(MAX_INLINE_BYTES + 1)
    if len(data) > MAX_INLINE_BYTES:
        raise attachment_fault(
            f"{path}: has more than {MAX_INLINE_BYTES:,} bytes, too much for inside a chat completion's request"
        )
    return data


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _text(data: bytes, attachment: Attachment) -> str:
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise attachment_fault(
            f"attachment {attachment.source!r}: chat completions take images, PDFs and text; "
            "--api responses takes further kinds"
        )
    return text
