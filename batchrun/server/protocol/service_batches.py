"""Batches of the Batch API and their result lines, as clients see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.server.protocol.ids import new_id
from batchrun.server.replies.encoding import dumps

if TYPE_CHECKING:
    from batchrun.server.protocol.bodies import Body
    from batchrun.server.protocol.requests.service_batches import CreateServiceBatch

__all__ = ["ENDED", "WINDOW_S", "add_usage", "error_line", "new_service_batch", "no_usage", "reply_line"]

WINDOW_S = 24 * 3600
"""The completion window, in seconds."""

ENDED = frozenset({"failed", "completed", "expired", "cancelled"})
"""The statuses that do not change any more."""


def new_service_batch(request: CreateServiceBatch, now: int) -> Body:
    """Return a new service batch, whose input has not been read yet."""
    return {
        "id": new_id("batch_"),
        "object": "batch",
        "endpoint": request.endpoint,
        "model": None,
        "errors": None,
        "input_file_id": request.input_file_id,
        "completion_window": request.completion_window,
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": now,
        "in_progress_at": None,
        "expires_at": now + WINDOW_S,
        "finalizing_at": None,
        "completed_at": None,
        "failed_at": None,
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "usage": no_usage(),
        "metadata": request.metadata,
    }


def reply_line(custom_id: str, status: int, body: str) -> str:
    """Return the result line of a request that got an HTTP reply.

    Args:
        body: JSON text.
    """
    return (
        f'{{"id":"{new_id("batch_req_")}","custom_id":{dumps(custom_id)},"response":{{"status_code":{status},'
        f'"request_id":"{new_id("req_")}","body":{body}}},"error":null}}'
    )


def error_line(custom_id: str, code: str, message: str) -> str:
    """Return the result line of a request that got no HTTP reply."""
    error = {"code": code, "message": message}
    return dumps({"id": new_id("batch_req_"), "custom_id": custom_id, "response": None, "error": error})


def no_usage() -> Body:
    """Return the usage of a service batch without an answer."""
    return {
        "input_tokens": 0,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 0,
    }


def add_usage(usage: Body, answer: Body) -> None:
    """Add the usage of an answer, which is that of a response or of a chat completion."""
    for own, chat, detail in (
        ("input_tokens", "prompt_tokens", "cached_tokens"),
        ("output_tokens", "completion_tokens", "reasoning_tokens"),
    ):
        name = own if own in answer else chat
        usage[own] += answer[name]
        usage["total_tokens"] += answer[name]
        usage[f"{own}_details"][detail] += answer[f"{name}_details"][detail]
