"""How an answer is cut: to a number of tokens, into words, into a number of pieces."""

from __future__ import annotations

import re

__all__ = ["cut_to_tokens", "in_pieces", "in_words"]

_BYTES_PER_TOKEN = 4


def cut_to_tokens(text: str, max_tokens: int | None) -> str:
    """The longest start of the text within `max_tokens`, by the rule 1 token = 4 bytes of UTF-8."""
    if max_tokens is None:
        return text
    return text.encode()[: max_tokens * _BYTES_PER_TOKEN].decode(errors="ignore")


def in_words(text: str) -> list[str]:
    """The text cut before the space of each word; joined, the pieces are the text."""
    return re.findall(r"\s*\S+|\s+$", text)


def in_pieces(text: str, count: int) -> list[str]:
    """The text in `count` pieces whose lengths differ by at most one character; fewer where it is short."""
    count = min(count, len(text))
    return [text[n * len(text) // count : (n + 1) * len(text) // count] for n in range(count)]
