"""Notices a server that does not apply --max-completion-tokens: an answer is longer, and was not cut off."""

from __future__ import annotations

from collections.abc import Callable

from batchrun.engine.service import Reply
from batchrun.job.options import Api, Job
from batchrun.services.finish_reason import CUT, SMALL_LIMIT
from batchrun.services.watched import Look
from batchrun.shell_hint import option

__all__ = ["token_limit_look"]


def token_limit_look(job: Job, api: Api, on_ignored: Callable[[str], None]) -> Look:
    """Return a function that looks at the usage of replies.

    Args:
        job: has `max_completion_tokens`.
        on_ignored: called with one line for each answer that is too long.
    """
    limit = max(job.max_completion_tokens or 0, SMALL_LIMIT)
    remedy = ""
    if api == "chat" and "max_tokens" not in job.param:
        remedy = f"; use {option('--param', f'max_tokens={job.max_completion_tokens}')} instead"

    def look(reply: Reply) -> None:
        written = reply.usage.completion_tokens
        if written is not None and written > limit and reply.status != "failed" and reply.reason != CUT:
            on_ignored(
                f"the service does not apply --max-completion-tokens: an answer of {written:,} tokens was not cut off"
                f"{remedy}"
            )

    return look
