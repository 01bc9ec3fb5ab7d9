"""Reads a service's usage object. A count that is missing, or is not a plausible number, is None, never 0."""

from __future__ import annotations

import json

from batchrun.records import JsonObject
from batchrun.services.reply_fields import cleaned, mapping
from batchrun.token_usage import Usage

__all__ = ["usage_of_response", "usage_of_tokens"]

MAX_TOKENS = 100_000_000
"""The most tokens of one run. No model takes as many; a larger number would use up every rate limit and budget."""

_STRICT = json.JSONEncoder(allow_nan=False)


def usage_of_tokens(found: object, tier: str | None = None) -> Usage:
    """Return the usage of a run or a chat completion.

    The parent of the cached tokens is `prompt_token_details` in runs, and `prompt_tokens_details` in chat completions.

    Args:
        tier: the service tier that the run was served in, which becomes a part of `raw`, so that the run is priced by
            it; None for the standard one.
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
        raw=_storable(raw, tier),
    )


def usage_of_response(found: object, tier: str | None = None) -> Usage:
    """Return the usage of a response, whose fields are named after input and output.

    Args:
        tier: as for `usage_of_tokens`.
    """
    raw = mapping(found)
    if not raw:
        return Usage()
    return Usage(
        prompt_tokens=_tokens(raw.get("input_tokens")),
        completion_tokens=_tokens(raw.get("output_tokens")),
        total_tokens=_tokens(raw.get("total_tokens")),
        cached_tokens=_tokens(mapping(raw.get("input_tokens_details")).get("cached_tokens")),
        reasoning_tokens=_tokens(mapping(raw.get("output_tokens_details")).get("reasoning_tokens")),
        raw=_storable(raw, tier),
    )


def _tokens(found: object) -> int | None:
    """Return a plausible number of tokens; None for anything else."""
    return found if type(found) is int and 0 <= found <= MAX_TOKENS else None


def _storable(raw: JsonObject, tier: str | None) -> JsonObject:
    """Return the object as the journal can store it, without `runs`: under that key it stores several objects."""
    if tier is not None:
        raw = {**raw, "service_tier": tier}
    if "runs" in raw:
        raw = {name: value for name, value in raw.items() if name != "runs"}
    if _has_counts_only(raw):
        return raw
    try:
        _STRICT.encode(raw)
    except (ValueError, RecursionError):
        storable: JsonObject = cleaned(raw)
        return storable
    return raw


def _has_counts_only(raw: JsonObject) -> bool:
    """Return whether an object has only integers, and objects of these, as nearly all of them do."""
    for found in raw.values():
        if type(found) is dict:
            for inner in found.values():
                if type(inner) is not int:
                    return False
        elif type(found) is not int:
            return False
    return True
