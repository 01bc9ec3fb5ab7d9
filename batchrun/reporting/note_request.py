"""The request by which the live page sends what a person noted about a row, checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request

from batchrun.batch.row_notes import MAX_COMMENT_CHARS, RATINGS, Rating

__all__ = ["MAX_BODY_BYTES", "NoteRefused", "NoteRequest", "limited_body", "other_sender", "read_note"]

MAX_BODY_BYTES: Final = 100_000
"""Bytes of a request: a comment of the most characters, escaped, and what is around it."""


class NoteRefused(ValueError):
    """The request is not one of the page's; the message says what is expected."""


@dataclass(frozen=True, slots=True)
class NoteRequest:
    """What a person noted about a row.

    Attributes:
        generation: number of the batch that the page shows.
        position: of the row, from 0.
    """

    generation: int
    position: int
    rating: Rating
    comment: str


def other_sender(headers: Mapping[str, str]) -> str | None:
    """Return why a request may come from another site; None if the page itself has sent it.

    A browser adds the origin of the page to each POST request, and no page can change it. The type of the content makes
    a browser ask for permission first (CORS) if a page of another origin sends it, and this server never gives it. The
    token in the address and the check of the Host header come before.
    """
    if headers.get("origin") != f"http://{headers.get('host')}":
        return "notes are taken only from the page of this server"
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return "notes are taken only from the page of this server"
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return "expected a body of type application/json"
    return None


async def limited_body(request: Request) -> bytes:
    """Return the body of a request.

    Raises:
        NoteRefused: it is longer than `MAX_BODY_BYTES`.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise NoteRefused(f"expected at most {MAX_BODY_BYTES:,} bytes")
    return body


def read_note(body: bytes) -> NoteRequest:
    """Return the note in a request's body.

    Raises:
        NoteRefused: it is not a JSON object with a generation, a position, a rating and a comment.
    """
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise NoteRefused("expected JSON") from None
    if not isinstance(found, dict) or found.keys() != {"generation", "position", "rating", "comment"}:
        raise NoteRefused("expected an object with generation, position, rating and comment")
    generation, position, rating, comment = (found[name] for name in ("generation", "position", "rating", "comment"))
    if type(generation) is not int or type(position) is not int:
        raise NoteRefused("generation and position: expected integers")
    if rating not in RATINGS:
        raise NoteRefused("rating: expected right, wrong or an empty text")
    if not isinstance(comment, str) or len(comment) > MAX_COMMENT_CHARS or not _is_text(comment):
        raise NoteRefused(f"comment: expected a text of at most {MAX_COMMENT_CHARS:,} characters")
    return NoteRequest(generation, position, rating, comment)


def _is_text(comment: str) -> bool:
    """Return whether a file can hold it: no half of a surrogate pair, and no character that ends a text."""
    try:
        return "\0" not in comment and bool(comment.encode() or True)
    except UnicodeEncodeError:
        return False
