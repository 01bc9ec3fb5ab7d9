"""Builds a user message with its files in the form of each protocol.

Attachments come before the text: rows that share a file then share the beginning of their prompts, for which services
charge less. Without attachments, the message is the plain text.
"""

from __future__ import annotations

import base64
import codecs
from pathlib import Path
from typing import TypeAlias

import anyio.to_thread

from batchrun.prompts.attachments import IMAGE_TYPES
from batchrun.records import Attachment, JsonDict, JsonObject, Turn
from batchrun.services.files.uploads import SEARCHED, Uploads, attachment_fault, opened

__all__ = ["MessageContent", "assistants_message", "chat_content", "responses_message", "tools_for"]

MessageContent: TypeAlias = str | list[JsonObject]
"""The text of a message, or its parts."""

MAX_INLINE_BYTES = 20 * 1024 * 1024
"""Maximum size of a file inside a request; services accept requests of some 30 to 50 MB."""

_SEARCHABLE = frozenset(
    {
        *(".c", ".cpp", ".cs", ".css", ".go", ".html", ".java", ".js", ".json", ".md", ".php", ".py", ".rb", ".sh"),
        *(".tex", ".ts", ".txt", ".doc", ".docx", ".pdf", ".pptx"),
    }
)
"""Suffixes of the files that the file search of the Assistants API accepts."""


async def assistants_message(turn: Turn, uploads: Uploads, *, code_interpreter: bool = False) -> JsonObject:
    """Return a message of a thread: images are parts, files are attachments for file search or the code interpreter.

    Args:
        code_interpreter: the assistant has that tool too; it gets every file, and file search gets those that it can
            read.

    Raises:
        ServiceFault: a file cannot be uploaded, or not now, or the protocol does not support it.
    """
    parts: list[JsonObject] = []
    attachments: list[JsonObject] = []
    for each in turn.attachments:
        if each.kind == "image":
            if each.sha256 is None:
                parts.append({"type": "image_url", "image_url": {"url": each.source}})
            else:
                file_id = await uploads.file_id(each, "vision")
                parts.append({"type": "image_file", "image_file": {"file_id": file_id}})
        elif each.sha256 is None:
            raise attachment_fault(
                f"attachment {each.source!r}: --api assistants accepts only images by URL; give a path, or use "
                "--api responses"
            )
        else:
            tools = tools_for(each, code_interpreter=code_interpreter)
            attachments.append({"file_id": await uploads.file_id(each, SEARCHED), "tools": tools})
    message: JsonDict = {"role": "user", "content": turn.text}
    if parts:
        message["content"] = [*parts, {"type": "text", "text": turn.text}]
    if attachments:
        message["attachments"] = attachments
    return message


def tools_for(attachment: Attachment, *, code_interpreter: bool) -> list[dict[str, str]]:
    """Return the tools with which an assistant reads an attached file; none for an image, which the model sees."""
    if attachment.kind == "image":
        return []
    tools = [{"type": "file_search"}]
    if code_interpreter:
        tools.append({"type": "code_interpreter"})
        if Path(attachment.source).suffix.lower() not in _SEARCHABLE:
            del tools[0]
    return tools


async def responses_message(turn: Turn, uploads: Uploads) -> JsonObject:
    """Return a user message with attachments as an item of a response's input. The service copies the files into the
    code interpreter's container itself.

    Raises:
        ServiceFault: a file cannot be uploaded, or not now.
    """
    parts: list[JsonObject] = []
    for each in turn.attachments:
        if each.kind == "image":
            place = {"image_url": each.source} if each.sha256 is None else await _by_id(each, uploads, "vision")
            parts.append({"type": "input_image", "detail": "auto", **place})
        else:
            place = {"file_url": each.source} if each.sha256 is None else await _by_id(each, uploads, "user_data")
            parts.append({"type": "input_file", **place})
    return {"role": "user", "content": [*parts, {"type": "input_text", "text": turn.text}]}


async def _by_id(attachment: Attachment, uploads: Uploads, purpose: str) -> dict[str, str]:
    return {"file_id": await uploads.file_id(attachment, purpose)}


async def chat_content(turn: Turn, folder: Path) -> MessageContent:
    """Return the `content` of a chat message, with its files inside: servers of that protocol store no files.

    Text files are added to the text, which every model reads; images and PDFs become parts.

    Args:
        folder: relative paths of attachments are relative to this folder.

    Raises:
        PermanentFault: the protocol does not support a file's kind or size, or a file has changed.
    """
    parts: list[JsonObject] = []
    texts: list[str] = []
    for each in turn.attachments:
        if each.sha256 is None:
            if each.kind != "image":
                raise attachment_fault(
                    f"attachment {each.source!r}: --api chat accepts only images by URL; give the file by its path, or "
                    "use --api responses"
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
            f"{path}: has more than {MAX_INLINE_BYTES:,} bytes, the maximum inside a request of --api chat; use "
            "--api responses, which uploads files"
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
            f"attachment {attachment.source!r}: --api chat accepts images, PDFs and text; use --api responses for "
            "other kinds"
        )
    return text
