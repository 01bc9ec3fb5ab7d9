"""Functions that cut an answer: to a number of tokens, into words, or into a number of pieces."""

from __future__ import annotations

import re

__all__ = ["cut_to_tokens", "in_pieces", "in_words"]

_BYTES_PER_TOKEN = 4


def cut_to_tokens(text: str, max_tokens: int | None) -> str:
    """Return the longest prefix of the text within `max_tokens`, by the rule 1 token = 4 bytes of UTF-8."""
    if max_tokens is None:
        return text
    return text.encode()[: max_tokens * _BYTES_PER_TOKEN].decode(errors="ignore")


def in_words(text: str) -> list[str]:
    """Return the text cut before the space of each word; the pieces joined are the text."""
    return re.findall(r"\s*\S+|\s+$", text)


def in_pieces(text: str, count: int) -> list[str]:
    """Return the text in `count` pieces, or fewer if it is short; their lengths differ by at most one character."""
    count = min(count, len(text))
    return [text[n * len(text) // count : (n + 1) * len(text) // count] for n in range(count)]
