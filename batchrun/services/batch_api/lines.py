"""Request lines: their custom ids, their encoding, and how they are cut into files. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from batchrun.journal.service_batches import WaitingLine
from batchrun.records import Attempt, Exchange, JsonObject

__all__ = ["MAX_FILE_BYTES", "MAX_LINES", "FileLines", "custom_id_of", "cut", "encoded_line", "url_of"]

MAX_LINES = 50_000
"""Request lines in one file: the limit of OpenAI's Batch API."""
MAX_FILE_BYTES = 200_000_000
"""Bytes of one file: the limit of OpenAI's Batch API is 200 MB."""

_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def custom_id_of(exchange: Exchange, attempt: Attempt, line: int) -> str:
    """Return the custom id of a request line: row, turn, number of the run, and number of the line.

    It is ASCII, at most 64 characters long, unique in the journal, and holds nothing of the table.
    """
    return f"row{exchange.row_index}-turn{exchange.turn.number}-attempt{attempt.generation}-{line}"


def url_of(endpoint: str, *, azure: bool) -> str:
    """Return the path of requests as the Batch API of a service names it: Azure's has no version for completions."""
    return "/chat/completions" if azure and endpoint == "/v1/chat/completions" else endpoint


def encoded_line(custom_id: str, url: str, body: JsonObject) -> bytes:
    """Return a request line as JSON without a line end."""
    return _ENCODE({"custom_id": custom_id, "method": "POST", "url": url, "body": body}).encode()


@dataclass(slots=True)
class FileLines:
    """The lines of one file.

    Mutable state: `lines` and `size`, while lines are added.

    Attributes:
        lines: their numbers.
        size: bytes of the file.
    """

    endpoint: str
    model: str | None
    lines: list[int] = field(default_factory=list)
    size: int = 0


def cut(
    waiting: Iterable[WaitingLine], *, max_lines: int = MAX_LINES, max_bytes: int = MAX_FILE_BYTES
) -> Iterator[FileLines]:
    """Yield files of at most `max_lines` lines and `max_bytes` bytes, with one endpoint and one model each.

    The lines keep their order. A single line that is larger is a file of its own.
    """
    files: dict[tuple[str, str | None], FileLines] = {}
    for each in waiting:
        key = (each.endpoint, each.model)
        file = files.get(key)
        if file is not None and (len(file.lines) >= max_lines or file.size + each.size + 1 > max_bytes):
            yield files.pop(key)
            file = None
        if file is None:
            file = files[key] = FileLines(each.endpoint, each.model)
        file.lines.append(each.line)
        file.size += each.size + 1
    yield from files.values()
