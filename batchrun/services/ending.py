"""Whether a run that says it completed did: what is not an answer is `incomplete`, in all protocols alike."""

from __future__ import annotations

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
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"
"""Characters of no width, which are no white space to Python."""


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
    if not more and not text.strip().strip(_INVISIBLE):
        return "incomplete", EMPTY_ANSWER
    return "completed", None
