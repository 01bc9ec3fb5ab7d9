"""Reads the citations of an answer, and the files that its run produced, from the replies.

A field that is missing or has another type is left out: the answer is complete without it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypedDict, cast

from batchrun.records import JsonObject
from batchrun.services.reply_fields import count, name, objects

__all__ = [
    "Citation",
    "Produced",
    "citations_of_chat",
    "citations_of_items",
    "citations_of_messages",
    "distinct",
    "produced_by_steps",
    "produced_in_items",
    "produced_in_messages",
]


class Citation(TypedDict, total=False):
    """A source that an answer cites: a file or a page. Fields that the service does not give are absent.

    Attributes:
        text: the mark in the response.
        start, end: characters of the response, whose parts are joined by a line break and whose messages by a blank
            line.
    """

    file_id: str
    filename: str
    quote: str
    text: str
    url: str
    title: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Produced:
    """A file that a run produced.

    Attributes:
        file_id: the service's id of the file; for an image inside the answer, the id of the item.
        name: the run's name of the file; None if only the service knows it.
        container_id: the container with the file; None if the file is not in a container.
        content: of a file inside the answer; None for one to download.
    """

    file_id: str
    name: str | None = None
    container_id: str | None = None
    content: bytes | None = None


# -- citations --------------------------------------------------------------------------------------------------


def citations_of_messages(messages: Iterable[JsonObject], names: Mapping[str, str] | None = None) -> list[Citation]:
    """Return the citations in the messages of a run, in the order of the text.

    Each has `file_id`, `text`, `start` and `end`, and also `filename` and `quote` if they are known.

    Args:
        messages: the messages of the Assistants protocol that make up the response.
        names: file id → name.
    """
    found: list[Citation] = []
    for offset, part in _message_parts(messages):
        for each in objects(part.get("annotations")):
            cited = each.get("file_citation")
            if each.get("type") == "file_citation" and isinstance(cited, Mapping):
                file_id = name(cited.get("file_id"))
                found.append(
                    _compact(
                        file_id=file_id,
                        filename=(names or {}).get(str(file_id)),
                        quote=name(cited.get("quote")),
                        text=name(each.get("text")),
                        start=_shifted(each.get("start_index"), offset),
                        end=_shifted(each.get("end_index"), offset),
                    )
                )
    return found


def citations_of_items(items: Iterable[JsonObject]) -> list[Citation]:
    """Return the citations in the messages among a response's output items.

    Files have `file_id`, `filename` and `start`, the character after which the citation belongs. Pages have `url`,
    `title`, `start` and `end`.
    """
    found: list[Citation] = []
    for offset, part in _item_parts(items):
        for each in objects(part.get("annotations")):
            if each.get("type") == "file_citation":
                place = _shifted(each.get("index"), offset)
                file_id, filename = name(each.get("file_id")), name(each.get("filename"))
                found.append(_compact(file_id=file_id, filename=filename, start=place))
            elif each.get("type") == "url_citation":
                found.append(_page(each, offset))
    return found


def citations_of_chat(message: JsonObject) -> list[Citation]:
    """Return the pages that a chat completion's message cites; models that search the web send them."""
    return [
        _page(each["url_citation"], 0)
        for each in objects(message.get("annotations"))
        if isinstance(each.get("url_citation"), Mapping)
    ]


def _page(cited: JsonObject, offset: int) -> Citation:
    return _compact(
        url=name(cited.get("url")),
        title=name(cited.get("title")),
        start=_shifted(cited.get("start_index"), offset),
        end=_shifted(cited.get("end_index"), offset),
    )


def _compact(**fields: str | int | None) -> Citation:
    return cast("Citation", {field: value for field, value in fields.items() if value is not None})


def _shifted(index: object, offset: int) -> int | None:
    known = count(index)
    return known + offset if known is not None else None


def _message_parts(messages: Iterable[JsonObject]) -> Iterator[tuple[int, JsonObject]]:
    """Yield (offset of the part in the response, `text` of the part); joined as `message_text` joins them."""
    offset = 0
    for message in messages:
        begun = offset
        for part in objects(message.get("content")):
            text = part.get("text")
            if part.get("type") == "text" and isinstance(text, Mapping):
                yield offset, text
                offset += len(name(text.get("value")) or "") + 1
            elif part.get("type") == "refusal":
                offset += len(name(part.get("refusal")) or "") + 1
            elif part.get("type") == "image_file":
                offset += len(f"[image {_file_id(part.get('image_file'))}]") + 1
        offset += 1 if offset > begun else 2


def _item_parts(items: Iterable[JsonObject]) -> Iterator[tuple[int, JsonObject]]:
    """Yield (offset of the part in the response, the part); joined as the Responses service does: no empty messages."""
    offset = 0
    for item in items:
        if item.get("type") != "message":
            continue
        parts = [part for part in objects(item.get("content")) if part.get("type") in ("output_text", "refusal")]
        begun = offset
        for part in parts:
            yield offset, part
            offset += len(name(part.get("text")) or name(part.get("refusal")) or "") + 1
        offset = offset + 1 if offset - begun > 1 else begun


def _file_id(body: object) -> str | None:
    return name(body.get("file_id")) if isinstance(body, Mapping) else None


# -- files that a run produced --------------------------------------------------------------------------------------


def produced_in_messages(messages: Iterable[JsonObject]) -> list[Produced]:
    """Return the images and linked files in a run's messages, each once."""
    found: list[Produced] = []
    for message in messages:
        for part in objects(message.get("content")):
            if part.get("type") == "image_file" and (file_id := _file_id(part.get("image_file"))):
                found.append(Produced(file_id))
            text = part.get("text")
            for each in objects(text.get("annotations")) if isinstance(text, Mapping) else ():
                if each.get("type") == "file_path" and (file_id := _file_id(each.get("file_path"))):
                    found += [Produced(file_id, PurePosixPath(name(each.get("text")) or "").name or None)]
    return distinct(found)


def produced_by_steps(steps: Iterable[JsonObject]) -> list[Produced]:
    """Return the images that the code of a run drew, whether its messages show them or not."""
    found: list[Produced] = []
    for step in steps:
        details = step.get("step_details")
        for call in objects(details.get("tool_calls")) if isinstance(details, Mapping) else ():
            code = call.get("code_interpreter")
            for output in objects(code.get("outputs")) if isinstance(code, Mapping) else ():
                if output.get("type") == "image" and (file_id := _file_id(output.get("image"))):
                    found += [Produced(file_id)]
    return distinct(found)


def produced_in_items(items: Iterable[JsonObject]) -> list[Produced]:
    """Return the files that a response links, and the images inside it, each once."""
    items = list(items)
    found: list[Produced] = []
    for _, part in _item_parts(items):
        for each in objects(part.get("annotations")):
            file_id, filename = name(each.get("file_id")), name(each.get("filename"))
            container_id = name(each.get("container_id"))
            if file_id and container_id and each.get("type") == "container_file_citation":
                found.append(Produced(file_id, filename, container_id))
            elif file_id and each.get("type") == "file_path":
                found.append(Produced(file_id, filename))
    for item in items:
        if item.get("type") == "image_generation_call":
            found += _image_inside(name(item.get("id")) or "image", item.get("result"))
        elif item.get("type") == "code_interpreter_call":
            for number, output in enumerate(objects(item.get("outputs"))):
                if output.get("type") == "image":
                    found += _image_inside(f"{name(item.get('id')) or 'image'}-{number}", output.get("url"))
    return distinct(found)


def _image_inside(name: str, encoded: object) -> list[Produced]:
    """Return an image that came as Base64 or as a data URL; nothing if it is neither."""
    if not isinstance(encoded, str) or encoded.startswith(("http:", "https:")):
        return []
    try:
        content = base64.b64decode(encoded.rpartition(",")[2], validate=True)
    except (binascii.Error, ValueError):
        return []
    return [Produced(name, content=content)] if content else []


def distinct(found: Iterable[Produced]) -> list[Produced]:
    """Return each file once, with a name if any of its mentions has one."""
    known: dict[str, Produced] = {}
    for each in found:
        if each.file_id not in known or known[each.file_id].name is None:
            known[each.file_id] = each
    return list(known.values())
