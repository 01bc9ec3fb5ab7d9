"""The fallback model: after which ends of a row it is asked, and the end of the first model that is kept. Pure."""

from __future__ import annotations

import re
from dataclasses import replace

from batchrun.errors import BatchRefused, PermanentFault, Refused, ServiceFault
from batchrun.records import EMPTY_ANSWER, REFUSAL, Completed, Failed, Outcome, Prompt, Reply, RowSettings, RunEnd
from batchrun.shell_hint import option
from batchrun.token_usage import usage_of_model

__all__ = [
    "NO_ANSWER",
    "asked_of",
    "fails_with_model",
    "first_end",
    "is_rows_own",
    "named",
    "no_answer",
    "of_fallback_model",
]

NO_ANSWER = frozenset({REFUSAL, "content_filter", EMPTY_ANSWER})
"""Reasons of incomplete answers that are as good as none. An answer that is cut at the token limit is one."""
_CONTENT = frozenset({"content_filter", "content_policy_violation", "invalid_prompt", "moderation_blocked", "flagged"})
"""Codes of a 403 that is about the content of the row."""
_OF_INPUT = re.compile(r"image|file|attachment|audio|_url|^http_413$|^bad_|^request_error$|^run_ended$")
"""Errors that another model would meet too: a file that cannot be read, a server that speaks another protocol."""


def fails_with_model(outcome: Outcome, fault: ServiceFault | None) -> bool:
    """Return whether another model may answer where this one did not.

    It may if the model refused, gave nothing, or failed for good: its context is too short, it does not keep to the
    schema. It is not asked after transient errors and timeouts, which are the service's, nor for a row whose input is
    at fault.

    Args:
        fault: the fault that failed the row; None if it was none of the model's.
    """
    if isinstance(outcome, Completed):
        return outcome.status == "incomplete" and outcome.reason in NO_ANSWER
    if not isinstance(fault, PermanentFault) or outcome.status != "failed":
        return False
    if isinstance(fault, Refused) and fault.error_type not in _CONTENT:
        return False  # a permission or an object: the engine decides whether all rows meet it
    is_own_model = isinstance(fault, BatchRefused) and fault.setting is not None
    return is_own_model or _OF_INPUT.search(fault.error_type) is None


def first_end(outcome: Outcome, fallback_model: str, requested: str | None) -> RunEnd:
    """Return the end of all runs with the first model, as the journal keeps it.

    Args:
        fallback_model: the model that is asked next.
        requested: the first model, as the row requested it.
    """
    model = outcome.model or requested
    reason = outcome.reason if isinstance(outcome, Completed) else outcome.error_type
    usage = usage_of_model(outcome.usage, model)
    reply = Reply(outcome.status, outcome.response or "", usage, model, reason)
    return RunEnd(1, 1, outcome.attempts, fallback_model, reply, outcome.thread_id, outcome.run_id)


def no_answer(first: RunEnd) -> PermanentFault:
    """Return the fault that the journal has for a run that ended well, with a refusal or without an answer."""
    text = first.reply.response.strip() or "the answer is empty"
    return PermanentFault(" ".join(text.split())[:300], error_type=first.reply.reason or EMPTY_ANSWER, run_ended=True)


def asked_of(prompt: Prompt, model: str) -> Prompt:
    """Return the prompt as it is asked of another model. Its fingerprint stays: it is still the same row."""
    return replace(prompt, model=model, own=replace(prompt.own or RowSettings(), model=model))


def named(outcome: Outcome | None, first: RunEnd) -> Outcome | None:
    """Return the outcome of a row that the fallback model was asked: its extras have the first model, and the error of
    one that failed names both."""
    if outcome is None:
        return None
    outcome = replace(outcome, extras={**(outcome.extras or {}), "fallback_from": first.reply.model or "assistant"})
    if not isinstance(outcome, Failed):
        return outcome
    before = f"{first.reply.model or 'the first model'} had ended with {first.reply.reason}"
    return replace(outcome, error=f"{outcome.error} (fallback model {first.asked}; {before})")


def of_fallback_model(fault: BatchRefused, first: RunEnd | None) -> BatchRefused:
    """Return a refusal that stops the batch, with the name of the fallback model if it is about its settings.

    Args:
        first: the end of the first model; None if the fallback model was not asked.
    """
    if fault.setting is not None and first is not None:
        fault.args = (f"{fault} ({option('--fallback-model', first.asked)})",)
    return fault


def is_rows_own(fault: BatchRefused, own: RowSettings | None, first: RunEnd | None) -> bool:
    """Return whether a refusal is about a setting that only this row has: its model, or else another one.

    Args:
        first: the end of the first model, if the fallback model was asked, which all rows share; else None.
    """
    if own is None or fault.setting is None or (first is not None and fault.setting == "model"):
        return False
    if (own.model is not None and first is None) or fault.setting == "model":
        return own.model is not None
    return (own.instructions if fault.setting == "instructions" else own.param) is not None
