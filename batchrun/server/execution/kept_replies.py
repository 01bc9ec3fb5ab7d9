"""Replies that exist only in an event log: kept in the file if an idempotency key has to repeat them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.server.store.kinds import COMPLETION

if TYPE_CHECKING:
    from batchrun.server.execution.parts import Parts
    from batchrun.server.replies.event_log import EventLog

__all__ = ["add_kept_reply", "free_unfinished_keys", "keep_reply"]


def add_kept_reply(parts: Parts, owner: str, log: EventLog) -> None:
    """Store a placeholder for the reply of a chat completion or search that has an idempotency key."""
    parts.objects.add(COMPLETION, owner, {"id": log.stream, "result": None}, status="in_progress", active=True)


def keep_reply(parts: Parts, owner: str, log: EventLog, *, is_finished: bool) -> None:
    """Store what the key has to repeat. A failed reply frees its key, so that the client can retry with it."""
    with parts.database.transaction():
        if is_finished:
            parts.objects.save({"id": log.stream, "result": log.result}, status="completed")
            parts.replies.keep_events(log.stream, 0, b"".join(log.frames), parts.clock.now())
        else:
            _free_key(parts, owner, log.stream)


def free_unfinished_keys(parts: Parts) -> None:
    """Free the keys of replies that the last process did not finish."""
    with parts.database.transaction():
        for owner, body in parts.objects.active(COMPLETION):
            _free_key(parts, owner, body["id"])


def _free_key(parts: Parts, owner: str, stream: str) -> None:
    parts.objects.remove(stream)
    parts.replies.release(owner, stream)
