"""The kinds of stored objects, each with the type of its body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from batchrun.server.protocol.bodies import Body, FileBody, MessageBody, RunBody, StepBody

__all__ = [
    "ASSISTANT",
    "COMPLETION",
    "CONTAINER",
    "CONVERSATION",
    "FILE",
    "FILE_BATCH",
    "ITEM",
    "MESSAGE",
    "RESPONSE",
    "RUN",
    "SERVICE_BATCH",
    "STEP",
    "STORED_COMPLETION",
    "THREAD",
    "UNSTORED_RESPONSE",
    "UPLOAD",
    "UPLOAD_PART",
    "VECTOR_STORE",
    "VECTOR_STORE_FILE",
    "BodyT",
    "Kind",
]

BodyT = TypeVar("BodyT", bound=Mapping[str, Any])


@dataclass(frozen=True, slots=True)
class Kind(Generic[BodyT]):
    """A kind of objects.

    Attributes:
        name: its value in the column `kind`.
    """

    name: str


ASSISTANT: Kind[Body] = Kind("assistant")
THREAD: Kind[Body] = Kind("thread")
MESSAGE: Kind[MessageBody] = Kind("message")
RUN: Kind[RunBody] = Kind("run")
STEP: Kind[StepBody] = Kind("step")
FILE: Kind[FileBody] = Kind("file")
UPLOAD: Kind[Body] = Kind("upload")
UPLOAD_PART: Kind[Body] = Kind("upload_part")
"""A part of an upload that is not complete; its content has the same id."""
VECTOR_STORE: Kind[Body] = Kind("vector_store")
VECTOR_STORE_FILE: Kind[Body] = Kind("vector_store_file")
"""A file in a vector store; its key is `store id/file id`."""
FILE_BATCH: Kind[Body] = Kind("file_batch")
RESPONSE: Kind[Body] = Kind("response")
UNSTORED_RESPONSE: Kind[Body] = Kind("unstored_response")
"""A response with `store: false`; it exists while it executes, and for its idempotency key."""
CONVERSATION: Kind[Body] = Kind("conversation")
ITEM: Kind[Body] = Kind("item")
CONTAINER: Kind[Body] = Kind("container")
"""The files of the code interpreter of one or more responses: `{id, file_ids}`."""
SERVICE_BATCH: Kind[Body] = Kind("batch")
"""A batch of the Batch API."""
STORED_COMPLETION: Kind[Body] = Kind("stored_completion")
"""A chat completion with `store: true`; its key is `stored/id`, because `COMPLETION` may have the same id."""
COMPLETION: Kind[Body] = Kind("completion")
"""The kept reply of a chat completion or search; see `execution/kept_replies.py`."""
