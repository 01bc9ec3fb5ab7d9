"""Stored vector stores: their files, counts and expiry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchrun.server.errors import ApiError
from batchrun.server.protocol.ids import new_id
from batchrun.server.store.kinds import VECTOR_STORE, VECTOR_STORE_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchrun.server.execution.parts import Parts
    from batchrun.server.protocol.bodies import Body

__all__ = [
    "add_store",
    "add_to_store",
    "chunking_body",
    "counts",
    "drop_from_store",
    "refresh_store",
    "usable_stores",
    "use_store",
]


DAY_S = 24 * 3600


def chunking_body(strategy: Any) -> Body:
    """Return a chunking strategy in the form that replies have: `auto` is 800 tokens with an overlap of 400.

    Raises:
        ApiError: 400 for an overlap of more than half a chunk.
    """
    if strategy is None or strategy.type == "auto":
        return {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}
    if strategy.static.chunk_overlap_tokens * 2 > strategy.static.max_chunk_size_tokens:
        raise ApiError(
            400,
            "chunk_overlap_tokens must not exceed half of max_chunk_size_tokens.",
            param="chunking_strategy.static.chunk_overlap_tokens",
            code="invalid_value",
        )
    body: Body = strategy.model_dump()
    return body


def counts(statuses: Sequence[str]) -> Body:
    """Return `file_counts` for the statuses of the files."""
    kinds = ("in_progress", "completed", "failed", "cancelled")
    return {kind: statuses.count(kind) for kind in kinds} | {"total": len(statuses)}


def add_store(parts: Parts, owner: str, name: str | None, metadata: Any, expires_after: Body | None) -> Body:
    """Store an empty vector store, and return it."""
    now = parts.now()
    body: Body = {
        "id": new_id("vs_"),
        "object": "vector_store",
        "created_at": now,
        "name": name or "",
        "usage_bytes": 0,
        "file_counts": counts(()),
        "status": "completed",
        "expires_after": expires_after,
        "expires_at": now + expires_after["days"] * DAY_S if expires_after else None,
        "last_active_at": now,
        "metadata": metadata or {},
    }
    parts.objects.add(VECTOR_STORE, owner, body, status="completed")
    return body


def add_to_store(
    parts: Parts,
    owner: str,
    store_id: str,
    file_id: str,
    *,
    chunking: Body,
    attributes: Body | None = None,
    batch_id: str | None = None,
) -> Body:
    """Add an existing file to a store. `Ingestion` processes its text afterwards."""
    body: Body = {
        "id": file_id,
        "object": "vector_store.file",
        "created_at": parts.now(),
        "usage_bytes": 0,
        "vector_store_id": store_id,
        "status": "in_progress",
        "last_error": None,
        "attributes": attributes or {},
        "chunking_strategy": chunking,
    }
    parts.objects.remove(f"{store_id}/{file_id}")
    parts.objects.add(
        VECTOR_STORE_FILE,
        owner,
        body,
        key=f"{store_id}/{file_id}",
        parent=store_id,
        run=batch_id,
        status="in_progress",
        active=True,
    )
    return body


def refresh_store(parts: Parts, owner: str, store_id: str) -> None:
    """Update a store's counts, size and status from its files."""
    store = parts.objects.find(VECTOR_STORE, owner, store_id)
    if store is None:
        return
    files = parts.objects.children(owner, VECTOR_STORE_FILE, store_id)
    store["file_counts"] = counts([file["status"] for file in files])
    store["usage_bytes"] = sum(file["usage_bytes"] for file in files)
    if store["status"] != "expired":
        store["status"] = "in_progress" if store["file_counts"]["in_progress"] else "completed"
    parts.objects.save(store, status=store["status"])


def drop_from_store(parts: Parts, owner: str, store_id: str, file_id: str) -> None:
    """Remove a file and its text from a store."""
    parts.objects.remove(f"{store_id}/{file_id}")
    parts.index.remove(store_id, file_id)
    parts.blobs.remove(f"{store_id}/{file_id}")
    refresh_store(parts, owner, store_id)


def use_store(parts: Parts, store: Body) -> None:
    """Record that a store is being used: its expiry counts from now."""
    store["last_active_at"] = parts.now()
    if store["expires_after"] is not None:
        store["expires_at"] = store["last_active_at"] + store["expires_after"]["days"] * DAY_S
    parts.objects.save(store, status=store["status"])


def usable_stores(parts: Parts, owner: str, store_ids: Sequence[str]) -> list[str]:
    """Return the stores that exist and have not expired, and record that they are being used."""
    usable = []
    for store_id in store_ids:
        store = parts.objects.find(VECTOR_STORE, owner, store_id)
        if store is not None and (store["expires_at"] is None or store["expires_at"] > parts.now()):
            use_store(parts, store)
            usable.append(store_id)
    return usable
