"""The operations of the protocol, one module a resource; the order is the order of matching, busiest first."""

from __future__ import annotations

from batchrun.server.http.routes import (
    assistants,
    chat,
    conversations,
    files,
    messages,
    models,
    responses,
    runs,
    steps,
    threads,
    vector_stores,
)

__all__ = ["OPERATIONS"]

OPERATIONS = (
    *runs.OPERATIONS,
    *chat.OPERATIONS,
    *responses.OPERATIONS,
    *messages.OPERATIONS,
    *steps.OPERATIONS,
    *threads.OPERATIONS,
    *assistants.OPERATIONS,
    *models.OPERATIONS,
    *conversations.OPERATIONS,
    *files.OPERATIONS,
    *vector_stores.OPERATIONS,
)
