"""What a reply carried besides its text, as the extras of a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from batchrun.engine.service import Reply
from batchrun.records import JsonDict, JsonObject
from batchrun.services.citations import Citation
from batchrun.services.reply_fields import cleaned, name, whole_text
from batchrun.services.watched import Look

__all__ = ["ON_REQUEST", "STANDARD_TIERS", "extras_of", "logprobs_look", "tier_of"]

ON_REQUEST = ("service_tier", "logprobs", "raw")
"""Parts of a reply that are kept only on request; a service tier is also kept if it is not the standard one."""

STANDARD_TIERS = frozenset({None, "auto", "default", "standard", "on_demand"})
"""Service tiers that have the standard price: OpenAI's, Anthropic's (`standard`) and Groq's (`on_demand`)."""


def tier_of(reported: object, asked: object) -> str | None:
    """Return the service tier to record: the one that the service reports, unless it is the standard one and none was
    asked for."""
    tier = name(reported)
    return None if tier in STANDARD_TIERS and asked is None else tier


def extras_of(
    keep: frozenset[str],
    *,
    citations: Sequence[Citation] = (),
    reasoning: Sequence[str] = (),
    tier: str | None = None,
    reported_tier: object = None,
    logprobs: Any = None,
    raw: Any = None,
) -> JsonObject | None:
    """Return the extras of a reply; None without any.

    Args:
        keep: names of the parts that are kept only on request: `logprobs`, `raw`, and the `service_tier` where it is
            the standard one.
        reasoning: pieces of the reasoning, in order.
        tier: see `tier_of`.
        reported_tier: as the service reports it.
        logprobs: the tokens of the answer with their log probabilities; None or empty for none.
        raw: the whole reply.
    """
    extras: JsonDict = {}
    if citations:
        extras["citations"] = list(citations)
    if reasoning and (text := whole_text("\n\n".join(piece for piece in map(str.strip, reasoning) if piece))):
        extras["reasoning"] = text
    if "service_tier" in keep:
        tier = name(reported_tier)
    if tier is not None:
        extras["service_tier"] = tier
    if logprobs and "logprobs" in keep:
        extras["logprobs"] = cleaned(logprobs)
    if "raw" in keep:
        extras["raw"] = cleaned(raw)
    return extras or None


def logprobs_look(on_missing: Callable[[str], None]) -> Look:
    """Return a function that looks for answers without log probabilities, although `keep` asks for them.

    Args:
        on_missing: called with one line for each of them.
    """

    def look(reply: Reply) -> None:
        if reply.status == "completed" and reply.response and "logprobs" not in (reply.extras or {}):
            on_missing(
                "--keep logprobs: the service sent an answer without log probabilities; the cells of such answers are "
                "empty"
            )

    return look
