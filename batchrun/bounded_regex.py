"""Patterns of the user's on text from outside, within a time: one that backtracks without end must not hold up a batch.

The matcher is `regex`, which takes Python's patterns and, unlike `re`, a time limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import regex

__all__ = ["MATCH_TIMEOUT_S", "TooSlow", "found", "matches"]

MATCH_TIMEOUT_S = 0.25


class TooSlow(Exception):
    """A pattern took too long on a text; the message says which."""


def found(pattern: str, text: str) -> bool:
    """Whether the pattern is found anywhere in the text.

    Raises:
        TooSlow: nobody knows, after `MATCH_TIMEOUT_S` seconds.
    """
    with _bounded(pattern, text):
        return regex.search(pattern, text, timeout=MATCH_TIMEOUT_S) is not None


def matches(pattern: str, text: str) -> list[regex.Match[str]]:
    """All matches of the pattern in the text, in order.

    Raises:
        TooSlow: nobody knows, after `MATCH_TIMEOUT_S` seconds.
    """
    with _bounded(pattern, text):
        return list(regex.finditer(pattern, text, timeout=MATCH_TIMEOUT_S))


@contextmanager
def _bounded(pattern: str, text: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise TooSlow(
            f"the pattern {pattern!r} takes more than {MATCH_TIMEOUT_S:g} s on {len(text):,} characters; "
            "repetitions inside repetitions, such as (a+)+, do that"
        ) from None
