"""Removes secrets from messages."""

from __future__ import annotations

import re

__all__ = ["scrubbed"]

_USER_OF_URL = re.compile(r"(?<=://)[^/?#@\s]+(?=@)")


def scrubbed(text: str, secrets: tuple[str, ...], *, most_chars: int | None = 2_000) -> str:
    """Return the text with each secret, and the user and password of each URL, replaced by `***`.

    The text is cut to `most_chars` characters (None: not cut) after that: half a key is a leak too.
    """
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    if "@" in text:
        text = _USER_OF_URL.sub("***", text)
    return text[:most_chars]
