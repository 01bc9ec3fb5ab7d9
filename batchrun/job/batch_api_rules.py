"""Rules for the options of the Batch API: what they need, what they exclude, and what only holds for other requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Final

from batchrun.errors import InputError
from batchrun.job.option_values import seconds_of
from batchrun.job.options import Job

__all__ = [
    "WAVE_S",
    "batch_deadline_s",
    "check_batch_api",
    "check_needs_batch_api",
    "most_waves",
    "unused_limits",
    "waves_notice",
]

WAVE_S: Final = 86_400.0
"""The longest time of a wave: the completion window of the Batch API."""

_NEED_BATCH_API: Final = ("no_wait", "batch_deadline", "batch_size", "batch_poll")
_EXCLUDED: Final = {
    "assistant": "it has no assistants",
    "stream": "its replies come in a file",
    "background": "its requests run in the background anyway",
    "conversation": "it cannot create a Conversation for each row",
    "poll": "it is polled anyway; --batch-poll sets how often",
}
"""Options that the Batch API does not have → reason."""
_ORDINARY: Final = ("concurrency", "rpm", "tpm", "row_timeout")
"""Limits that hold for ordinary requests only."""


def check_needs_batch_api(job: Job) -> None:
    """Raise InputError if an option of the Batch API is given without it."""
    defaults = {field.name: field.default for field in fields(Job)}
    for name in _NEED_BATCH_API:
        if not job.batch_api and getattr(job, name) != defaults[name]:
            raise InputError(f"{_flag(name)}: is an option of --batch-api; add --batch-api, or leave it out")


def check_batch_api(job: Job) -> None:
    """Raise InputError if an option is given that the Batch API does not have, or a deadline that is not one."""
    if batch_deadline_s(job) == 0:
        raise InputError("--batch-deadline: must be longer than 0 seconds")
    if not job.batch_api:
        return
    for name, reason in _EXCLUDED.items():
        if getattr(job, name) or name in job.matrix:
            raise InputError(f"--batch-api: cannot be combined with {_flag(name)}: {reason}; remove one of them")
    if job.api == "assistants":
        raise InputError("--batch-api: cannot be combined with --api assistants; use --api responses or --api chat")


def batch_deadline_s(job: Job) -> float | None:
    """Return the seconds after which a batch at the service is cancelled; None for no deadline.

    Raises:
        InputError: the duration is malformed.
    """
    return None if job.batch_deadline is None else seconds_of(job.batch_deadline, "batch-deadline")


def most_waves(job: Job) -> int:
    """Return the most waves of requests that a batch may take, without those that repeat failed requests.

    Each turn is a wave, and so is each round of function calls and each correction of an answer's form.
    """
    turns = len(job.turns or (1,))
    rounds = job.max_tool_rounds if job.tools is not None else 0
    corrections = job.schema_retries if job.schema is not None else 0
    waves = turns * (1 + rounds) + corrections * (1 + rounds)
    return waves if job.fallback_model is None else 2 * waves


def waves_notice(job: Job) -> Iterator[str]:
    """Yield a line about how long the Batch API may take; nothing for ordinary requests."""
    if not job.batch_api:
        return
    waves = most_waves(job)
    if waves == 1:
        yield "the Batch API answers in 1 wave of requests, which may take up to 24 h; failed ones take another"
        return
    reasons = {
        "turns": job.turns is not None and len(job.turns) > 1,
        "function calls": job.tools is not None,
        "corrections of the schema": job.schema is not None and job.schema_retries > 0,
        "the fallback model": job.fallback_model is not None,
    }
    because = ", ".join(name for name, holds in reasons.items() if holds)
    yield (
        f"the Batch API answers in up to {waves:,} waves of requests ({because}), each of which may take up to 24 h; "
        "failed ones take another"
    )


def unused_limits(job: Job) -> Iterator[str]:
    """Yield a line if limits are given that do not hold for requests of the Batch API."""
    given = [_flag(name) for name in _ORDINARY if getattr(job, name) is not None]
    if job.batch_api and given:
        does = "does" if len(given) == 1 else "do"
        names = " and ".join(filter(None, (", ".join(given[:-1]), given[-1])))
        yield f"{names} {does} not hold for requests of the Batch API, only for ordinary requests"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
