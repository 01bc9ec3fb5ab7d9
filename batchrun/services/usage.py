"""A service's usage object → `Usage`, whole. What the service does not tell, or tells oddly, stays None, never 0."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from batchrun.records import Usage
from batchrun.services.reply_fields import cleaned, count, mapping

__all__ = ["usage_of_response", "usage_of_tokens"]

MAX_TOKENS = 100_000_000
"""Of one run. No model takes as many: a larger number is odd, and would stop a batch that has a limit or a budget."""

_STRICT = json.JSONEncoder(allow_nan=False)


def usage_of_tokens(found: Any) -> Usage:
    """The usage of a run or a chat completion.

    Runs spell the cached tokens' parent `prompt_token_details`, chat completions `prompt_tokens_details`.
    """
    raw = mapping(found)
    if not raw:
        return Usage()
    prompt_details = raw.get("prompt_token_details") or raw.get("prompt_tokens_details")
    return Usage(
        prompt_tokens=_tokens(raw.get("prompt_tokens")),
        completion_tokens=_tokens(raw.get("completion_tokens")),
        total_tokens=_tokens(raw.get("total_tokens")),
        cached_tokens=_tokens(mapping(prompt_details).get("cached_tokens")),
        reasoning_tokens=_tokens(mapping(raw.get("completion_tokens_details")).get("reasoning_tokens")),
        raw=_storable(raw),
    )


def usage_of_response(found: Any) -> Usage:
    """The usage of a response, which counts input and output tokens."""
    raw = mapping(found)
    if not raw:
        return Usage()
    return Usage(
        prompt_tokens=_tokens(raw.get("input_tokens")),
        completion_tokens=_tokens(raw.get("output_tokens")),
        total_tokens=_tokens(raw.get("total_tokens")),
        cached_tokens=_tokens(mapping(raw.get("input_tokens_details")).get("cached_tokens")),
        reasoning_tokens=_tokens(mapping(raw.get("output_tokens_details")).get("reasoning_tokens")),
        raw=_storable(raw),
    )


def _tokens(found: Any) -> int | None:
    """A number of tokens that a run can have taken."""
    number = count(found)
    return number if number is not None and number <= MAX_TOKENS else None


def _storable(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object as the journal can keep it; `runs` is the name under which it keeps several."""
    if "runs" in raw:
        raw = {name: value for name, value in raw.items() if name != "runs"}
    try:
        _STRICT.encode(raw)
    except (ValueError, RecursionError):
        cut: Mapping[str, Any] = cleaned(raw)
        return cut
    return raw
