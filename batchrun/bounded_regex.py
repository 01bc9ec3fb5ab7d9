"""Regular expressions of the user with a time limit, since one that backtracks without end must not block a batch.

The matcher is `regex`, which accepts Python's patterns and, unlike `re`, a time limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import regex

__all__ = ["MATCH_TIMEOUT_S", "TooSlow", "found", "matches"]

MATCH_TIMEOUT_S = 0.25


class TooSlow(Exception):
    """A pattern took too long on a text; the message names the pattern."""


def found(pattern: str, text: str) -> bool:
    """Return whether the pattern matches anywhere in the text.

    Raises:
        TooSlow: no result within `MATCH_TIMEOUT_S` seconds.
    """
    import regex

    with _bounded(pattern, text):
        return regex.search(pattern, text, timeout=MATCH_TIMEOUT_S) is not None


def matches(pattern: str, text: str) -> list[regex.Match[str]]:
    """Return all matches of the pattern in the text, in order.

    Raises:
        TooSlow: no result within `MATCH_TIMEOUT_S` seconds.
    """
    import regex

    with _bounded(pattern, text):
        return list(regex.finditer(pattern, text, timeout=MATCH_TIMEOUT_S))


@contextmanager
def _bounded(pattern: str, text: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise TooSlow(
            f"the pattern {pattern!r} takes more than {MATCH_TIMEOUT_S:g} s on {len(text):,} characters; "
            "nested repetitions, such as (a+)+, cause that"
        ) from None
