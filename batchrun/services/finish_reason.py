"""Decides whether a run has a whole answer: by its finish reason, and by its text."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Final, Literal

from batchrun.records import EMPTY_ANSWER, REFUSAL, JsonObject
from batchrun.token_usage import Usage

__all__ = ["BROKEN", "CUT", "FILTERED", "SMALL_LIMIT", "end_of_completed", "is_known", "meaning_of"]

CUT = "max_completion_tokens"
"""The reason of an answer that was cut at the token limit, in every protocol."""
FILTERED = "content_filter"
"""The reason of an answer that a filter cut off or withheld."""
BROKEN = "broken"
"""The service broke the answer off: what there is of it is not an answer, and another run may give one."""

_MEANINGS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "token_limit"), CUT),
    **dict.fromkeys(("model_length", "model_context_window_exceeded"), CUT),  # Mistral; GLM: the context is full
    FILTERED: FILTERED,
    "sensitive": FILTERED,  # GLM
    # Gemini sends its own reasons through its compatible endpoint, in capitals.
    **dict.fromkeys(("safety", "recitation", "blocklist", "prohibited_content", "spii", "image_safety"), FILTERED),
    **dict.fromkeys(("image_prohibited_content", "image_recitation", "language"), FILTERED),
    **dict.fromkeys(("malformed_function_call", "malformed_response", "other"), BROKEN),
    **dict.fromkeys(("unexpected_tool_call", "too_many_tool_calls", "finish_reason_unspecified"), BROKEN),
    **dict.fromkeys(("guardrail_intervened", "content_filtered", "error_toxic"), FILTERED),  # Bedrock; Cohere
    **dict.fromkeys(("error", "abort", "aborted"), BROKEN),  # OpenRouter, Mistral; vLLM, SGLang
    **dict.fromkeys(("timeout", "user_cancel"), BROKEN),  # Cohere
    **dict.fromkeys(("time_limit", "cancelled", "canceled", "not_finished"), BROKEN),  # watsonx
    **dict.fromkeys(("failed", "interrupted"), BROKEN),
    "insufficient_system_resource": BROKEN,  # DeepSeek
    "network_error": BROKEN,  # GLM
}
"""Finish reasons of answers that are not whole, in the words of each service."""

_WHOLE: Final = frozenset(
    ("", "stop", "tool_calls", "function_call", "eos", "eos_token", "stop_token", "stop_sequence", "end_turn")
) | {"complete", "completed", "finished"}
"""Finish reasons of whole answers, and of calls of functions."""

_LIMIT_PARAMETERS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
"""The parameters that limit the tokens of an answer, in the three protocols."""
SMALL_LIMIT = 16
"""Up to this limit, in tokens, services round, and short answers have this length by chance."""
_INVISIBLE = frozenset("\u2800\u3164\u115f\u1160\uffa0\u034f\ufe0e\ufe0f")
"""Fillers and selectors that show nothing, although Unicode classifies them as letters, symbols or marks."""


def meaning_of(finish_reason: str | None) -> str | None:
    """Return `CUT`, `FILTERED` or `BROKEN` for the finish reason of an answer that is not whole; None for others.

    Examples:
        >>> [meaning_of(reason) for reason in ("stop", "length", "SAFETY", "content_filter: RECITATION", None)]
        [None, 'max_completion_tokens', 'content_filter', 'content_filter', None]
    """
    if finish_reason == "stop":
        return None
    return _MEANINGS.get((finish_reason or "").partition(":")[0].strip().lower())


def is_known(finish_reason: str | None) -> bool:
    """Return whether a finish reason says that an answer is whole, or that it is not.

    Examples:
        >>> [is_known(reason) for reason in ("stop", "EOS", "length", None, "weary")]
        [True, True, True, True, False]
    """
    if finish_reason == "stop":
        return True
    return (finish_reason or "").strip().lower() in _WHOLE or meaning_of(finish_reason) is not None


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
    is_long = written is not None and written > SMALL_LIMIT
    if parameters and is_long and written in map(parameters.get, _LIMIT_PARAMETERS):
        return "incomplete", CUT
    if not more and _is_blank(text):
        return "incomplete", EMPTY_ANSWER
    return "completed", None


def _is_blank(text: str) -> bool:
    """Return whether a text shows nothing: it has only blanks, controls, or characters of no width."""
    return all(unicodedata.category(each) in ("Cc", "Cf", "Zs", "Zl", "Zp") or each in _INVISIBLE for each in text)
