"""The operations of the protocol, one module per resource. They are matched in this order, the busiest first."""

from __future__ import annotations

from batchrun.server.http.routes import (
    assistants,
    chat,
    conversations,
    embeddings,
    files,
    messages,
    models,
    responses,
    runs,
    service_batches,
    steps,
    stored_chats,
    threads,
    uploads,
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
    *embeddings.OPERATIONS,
    *stored_chats.OPERATIONS,
    *conversations.OPERATIONS,
    *files.OPERATIONS,
    *uploads.OPERATIONS,
    *service_batches.OPERATIONS,
    *vector_stores.OPERATIONS,
)
