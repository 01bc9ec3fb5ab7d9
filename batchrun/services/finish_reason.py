"""Decides whether a run with the status `completed` has an answer; if not, it counts as `incomplete`."""

from __future__ import annotations

import unicodedata
from typing import Literal

from batchrun.records import EMPTY_ANSWER, REFUSAL, JsonObject
from batchrun.token_usage import Usage

__all__ = ["CUT", "SMALL_LIMIT", "end_of_completed"]

CUT = "max_completion_tokens"
"""The reason of an answer that was cut at the token limit, in every protocol."""

_LIMIT_PARAMETERS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
"""The parameters that limit the tokens of an answer, in the three protocols."""
SMALL_LIMIT = 16
"""Up to this limit, in tokens, services round, and short answers have this length by chance."""
_INVISIBLE = frozenset("\u2800\u3164\u115f\u1160\uffa0\u034f\ufe0e\ufe0f")
"""Fillers and selectors that show nothing, although Unicode classifies them as letters, symbols or marks."""


def end_of_completed(
    text: str, usage: Usage, *, refused: bool = False, parameters: JsonObject | None = None, more: bool = False
) -> tuple[Literal["completed", "incomplete"], str | None]:
    """Return (status, reason) of a run that has the status `completed` and asks for no function.

    Args:
        text: of its messages, including refusals and without a thought before the answer.
        refused: the model refused.
        parameters: the model parameters of the run, if only its status shows that the answer was not cut: then an
            answer with exactly as many tokens as its limit was cut. Else None.
        more: the run has something next to its text, such as files or images.
    """
    if refused:
        return "incomplete", REFUSAL
    written = usage.completion_tokens
    is_at_limit = parameters is not None and any(parameters.get(name) == written for name in _LIMIT_PARAMETERS)
    if is_at_limit and written is not None and written > SMALL_LIMIT:
        return "incomplete", CUT
    if not more and _is_blank(text):
        return "incomplete", EMPTY_ANSWER
    return "completed", None


def _is_blank(text: str) -> bool:
    """Return whether a text shows nothing: it has only blanks, controls, or characters of no width."""
    return all(unicodedata.category(each) in ("Cc", "Cf", "Zs", "Zl", "Zp") or each in _INVISIBLE for each in text)
