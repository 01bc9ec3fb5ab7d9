"""JSON text and frames of server-sent events.

Frames are built by hand, because a validating model would cost more than the rest of a streamed run.
Instead, tests validate every frame strictly against the SDK's types.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["DONE", "KEEP_ALIVE", "dumps", "frame", "frame_text", "loads"]

dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode
"""Returns compact JSON text of plain Python data."""

DONE = b"event: done\ndata: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


def loads(text: str) -> Any:
    """Return the data of JSON text that this server wrote."""
    return json.loads(text)


def frame(event: str, data: Any) -> bytes:
    """Return a server-sent event with `data` as JSON."""
    return frame_text(event, dumps(data))


def frame_text(event: str, text: str) -> bytes:
    """Return a server-sent event whose data is JSON text already.

    JSON escapes line breaks, so the data is one line. A lone surrogate, which a responder may produce but UTF-8
    cannot encode, becomes "?".
    """
    return f"event: {event}\ndata: {text}\n\n".encode("utf-8", "replace")
