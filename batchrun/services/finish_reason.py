"""Whether a run that says it completed did: what is not an answer is `incomplete`, in all protocols alike."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Literal

from batchrun.records import EMPTY_ANSWER, REFUSAL, Usage

__all__ = ["CUT", "end_of_completed"]

CUT = "max_completion_tokens"
"""The reason of an answer that was cut at the token limit, whatever the protocol calls it."""

_BOUNDS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
"""The parameters that bound an answer, in the three protocols."""
_LEAST_BOUND = 16
"""Up to this bound services round as they like, and short answers meet it by chance."""
_INVISIBLE = frozenset("\u2800\u3164\u115f\u1160\uffa0\u034f\ufe0e\ufe0f")
"""Fillers and selectors that show nothing, although Unicode counts them among the letters, symbols and marks."""
_REASONING = re.compile(r"\s*<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL)
"""What models think, where their server leaves it in the text; without an end it is all the text."""


def end_of_completed(
    text: str, usage: Usage, *, refused: bool = False, parameters: Mapping[str, Any] | None = None, more: bool = False
) -> tuple[Literal["completed", "incomplete"], str | None]:
    """(status, reason) of a run that says it completed and asks for no function.

    Args:
        text: of its messages, a refusal's included.
        refused: the model refused.
        parameters: the run was asked for with these, and nothing but its status says that it was not cut: an answer
            exactly as long as its bound was.
        more: it has something beside its text: files, images.
    """
    if refused:
        return "incomplete", REFUSAL
    written = usage.completion_tokens
    met = parameters is not None and any(parameters.get(name) == written for name in _BOUNDS)
    if met and written is not None and written > _LEAST_BOUND:
        return "incomplete", CUT
    if not more and _says_nothing(text):
        return "incomplete", EMPTY_ANSWER
    return "completed", None


def _says_nothing(text: str) -> bool:
    """Whether nothing of it can be seen: blanks, controls, characters of no width, reasoning without an answer."""
    answer = text[thought.end() :] if (thought := _REASONING.match(text)) else text
    return all(unicodedata.category(each) in ("Cc", "Cf", "Zs", "Zl", "Zp") or each in _INVISIBLE for each in answer)
