"""Reads the files that a run produced from the replies.

A field that is missing or has another type is left out: the answer is complete without it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from batchrun.records import JsonObject
from batchrun.services.citations import item_parts
from batchrun.services.reply_fields import name, objects

__all__ = ["Produced", "distinct", "produced_by_steps", "produced_in_items", "produced_in_messages"]


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


def _file_id(body: object) -> str | None:
    return name(body.get("file_id")) if isinstance(body, Mapping) else None


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
    for _, part in item_parts(items):
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
