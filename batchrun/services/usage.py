"""A service's usage object → `Usage`, whole. What the service does not tell stays None, never 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchrun.records import Usage

__all__ = ["usage_of_response", "usage_of_tokens"]


def usage_of_tokens(raw: Mapping[str, Any] | None) -> Usage:
    """The usage of a run or a chat completion.

    Runs spell the cached tokens' parent `prompt_token_details`, chat completions `prompt_tokens_details`.
    """
    if not raw:
        return Usage()
    prompt_details = raw.get("prompt_token_details") or raw.get("prompt_tokens_details") or {}
    completion_details = raw.get("completion_tokens_details") or {}
    return Usage(
        prompt_tokens=raw.get("prompt_tokens"),
        completion_tokens=raw.get("completion_tokens"),
        total_tokens=raw.get("total_tokens"),
        cached_tokens=prompt_details.get("cached_tokens"),
        reasoning_tokens=completion_details.get("reasoning_tokens"),
        raw=raw,
    )


def usage_of_response(raw: Mapping[str, Any] | None) -> Usage:
    """The usage of a response, which counts input and output tokens."""
    if not raw:
        return Usage()
    return Usage(
        prompt_tokens=raw.get("input_tokens"),
        completion_tokens=raw.get("output_tokens"),
        total_tokens=raw.get("total_tokens"),
        cached_tokens=(raw.get("input_tokens_details") or {}).get("cached_tokens"),
        reasoning_tokens=(raw.get("output_tokens_details") or {}).get("reasoning_tokens"),
        raw=raw,
    )
