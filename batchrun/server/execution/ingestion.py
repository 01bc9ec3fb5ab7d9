"""Vector stores: what is in them, and how files get into them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from batchrun.server.errors import ApiError
from batchrun.server.execution.supervisor import Live, Supervisor
from batchrun.server.protocol.ids import new_id
from batchrun.server.replies.event_log import EventLog
from batchrun.server.search.file_search import EmbeddingError, ExtractionError, chunk_text, extract_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchrun.server.execution.parts import Parts
    from batchrun.server.protocol.objects import Body
    from batchrun.server.search.file_search import Vector

__all__ = [
    "Ingestion",
    "add_store",
    "add_to_store",
    "chunking_body",
    "counts",
    "drop_from_store",
    "refresh_store",
    "usable_stores",
    "use_store",
]

logger = logging.getLogger("batchrun.server")

DAY_S = 24 * 3600


def chunking_body(strategy: Any) -> Body:
    """A chunking strategy as it is echoed: `auto` is 800 tokens with an overlap of 400.

    Raises:
        ApiError: 400 for an overlap of more than half a chunk.
    """
    if strategy is None or strategy.type == "auto":
        return {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}
    if strategy.static.chunk_overlap_tokens * 2 > strategy.static.max_chunk_size_tokens:
        raise ApiError(
            400, "chunk_overlap_tokens must not exceed half of max_chunk_size_tokens.",
            param="chunking_strategy.static.chunk_overlap_tokens", code="invalid_value",
        )  # fmt: skip
    body: Body = strategy.model_dump()
    return body


def counts(statuses: Sequence[str]) -> Body:
    """`file_counts` from the statuses of the files."""
    kinds = ("in_progress", "completed", "failed", "cancelled")
    return {kind: statuses.count(kind) for kind in kinds} | {"total": len(statuses)}


def add_store(parts: Parts, owner: str, name: str | None, metadata: Any, expires_after: Body | None) -> Body:
    """Store an empty vector store."""
    now = parts.now()
    body: Body = {
        "id": new_id("vs_"), "object": "vector_store", "created_at": now, "name": name or "",
        "usage_bytes": 0, "file_counts": counts(()), "status": "completed",
        "expires_after": expires_after,
        "expires_at": now + expires_after["days"] * DAY_S if expires_after else None,
        "last_active_at": now, "metadata": metadata or {},
    }  # fmt: skip
    parts.objects.add("vector_store", owner, body, status="completed")
    return body


def add_to_store(
    parts: Parts, owner: str, store_id: str, file_id: str, *,
    chunking: Body, attributes: Body | None = None, batch_id: str | None = None,
) -> Body:  # fmt: skip
    """Put an existing file into a store; its text is taken in later, by `Ingestion`."""
    body: Body = {
        "id": file_id, "object": "vector_store.file", "created_at": parts.now(), "usage_bytes": 0,
        "vector_store_id": store_id, "status": "in_progress", "last_error": None,
        "attributes": attributes or {}, "chunking_strategy": chunking,
    }  # fmt: skip
    parts.objects.remove(f"{store_id}/{file_id}")
    parts.objects.add(
        "vector_store_file", owner, body,
        key=f"{store_id}/{file_id}", parent=store_id, run=batch_id, status="in_progress", active=True,
    )  # fmt: skip
    return body


def refresh_store(parts: Parts, owner: str, store_id: str) -> None:
    """Bring a store's counts, size and status up to date with its files."""
    store = parts.objects.find("vector_store", owner, store_id)
    if store is None:
        return
    files = parts.objects.children(owner, "vector_store_file", store_id)
    store["file_counts"] = counts([file["status"] for file in files])
    store["usage_bytes"] = sum(file["usage_bytes"] for file in files)
    if store["status"] != "expired":
        store["status"] = "in_progress" if store["file_counts"]["in_progress"] else "completed"
    parts.objects.save(store, status=store["status"])


def drop_from_store(parts: Parts, owner: str, store_id: str, file_id: str) -> None:
    """Take a file out of a store, with its text."""
    parts.objects.remove(f"{store_id}/{file_id}")
    parts.index.remove(store_id, file_id)
    parts.blobs.remove(f"{store_id}/{file_id}")
    refresh_store(parts, owner, store_id)


def use_store(parts: Parts, store: Body) -> None:
    """Note that a store is being used: its expiry counts from here."""
    store["last_active_at"] = parts.now()
    if store["expires_after"] is not None:
        store["expires_at"] = store["last_active_at"] + store["expires_after"]["days"] * DAY_S
    parts.objects.save(store, status=store["status"])


def usable_stores(parts: Parts, owner: str, store_ids: Sequence[str]) -> list[str]:
    """Those of the stores that exist and have not expired; they are used by this."""
    usable = []
    for store_id in store_ids:
        store = parts.objects.find("vector_store", owner, store_id)
        if store is not None and (store["expires_at"] is None or store["expires_at"] > parts.now()):
            use_store(parts, store)
            usable.append(store_id)
    return usable


@dataclass(frozen=True, slots=True)
class _Content:
    """What is taken in of a file.

    Attributes:
        vectors: the chunks' embeddings; None without an embedder.
    """

    filename: str
    text: str
    chunks: list[str]
    vectors: list[Vector] | None


@dataclass(slots=True)
class LiveIngestion(Live):
    """A file that is being ingested into a vector store. Its log has no events: readers wait for its end.

    Mutable state: `content`, None until it has been read.
    """

    owner: str
    body: Body
    content: _Content | None = None


class Ingestion(Supervisor[LiveIngestion]):
    """Ingests files into vector stores: extracts text, cuts it into chunks, embeds them and adds them to the index."""

    noun = "ingestion"
    expected = (ExtractionError, EmbeddingError)

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._workers = anyio.Semaphore(2)

    def launch(self, owner: str, body: Body) -> None:
        """Ingest a stored vector store file; after the commit."""
        self.start(LiveIngestion(EventLog(f"{body['vector_store_id']}/{body['id']}", 0), owner, body))

    def recover(self) -> None:
        """Ingest the files that the last process did not finish."""
        for owner, body in self._parts.objects.active("vector_store_file"):
            self.launch(owner, body)

    async def settled(self, store_ids: Sequence[str]) -> None:
        """Wait until nothing is being ingested into these stores."""
        while waiting := [live for key, live in self.live.items() if key.partition("/")[0] in store_ids]:
            await waiting[0].log.changed()

    async def _answer(self, live: LiveIngestion) -> None:
        async with self._workers:
            live.content = await self._content(live.owner, live.body, live.log.stream)

    def _settle(self, live: LiveIngestion, failure: BaseException | None) -> None:
        owner, body, key = live.owner, live.body, live.log.stream
        if isinstance(failure, EmbeddingError):
            logger.warning("file %s could not be embedded: %s", body["id"], failure)
        # The file may have been removed or cancelled meanwhile.
        if not self._wanted(owner, key):
            return
        if live.content is not None:
            self._store(owner, body, key, live.content)
        elif isinstance(failure, Exception):
            self._refuse(owner, body, key, _last_error(failure))

    async def _content(self, owner: str, body: Body, key: str) -> _Content:
        """Read, cut and embed a file.

        Raises:
            ExtractionError: it holds no text that can be read.
            EmbeddingError: its text cannot be embedded.
        """
        parts = self._parts
        file = parts.objects.find("file", owner, body["id"])
        filename = file["filename"] if file is not None else body["id"]
        data = parts.blobs.read(body["id"])
        text, chunks = await anyio.to_thread.run_sync(_read, filename, data, body["chunking_strategy"]["static"])
        # Embeddings may cost money: none for a file that was removed while it waited for its turn.
        vectors = await parts.embedded.embed(chunks) if parts.embedded and self._wanted(owner, key) else None
        return _Content(filename, text, chunks, vectors)

    def _store(self, owner: str, body: Body, key: str, content: _Content) -> None:
        parts, store_id = self._parts, body["vector_store_id"]
        body["status"] = "completed"
        body["usage_bytes"] = sum(len(chunk.encode()) for chunk in content.chunks)
        with parts.database.transaction():
            parts.index.add(store_id, body["id"], content.filename, content.chunks, content.vectors)
            parts.blobs.put(key, content.text.encode())
            parts.objects.save(body, key=key, status="completed")
            refresh_store(parts, owner, store_id)

    def _refuse(self, owner: str, body: Body, key: str, error: Body) -> None:
        parts = self._parts
        body |= {"status": "failed", "last_error": error}
        with parts.database.transaction():
            parts.objects.save(body, key=key, status="failed")
            refresh_store(parts, owner, body["vector_store_id"])

    def _wanted(self, owner: str, key: str) -> bool:
        """Whether the file is still to be taken in."""
        current = self._parts.objects.find("vector_store_file", owner, key)
        return current is not None and current["status"] == "in_progress"


def _last_error(failure: Exception) -> Body:
    """Return the `last_error` of a vector store file."""
    if isinstance(failure, ExtractionError):
        return {"code": "unsupported_file", "message": str(failure)}
    text = str(failure) if isinstance(failure, EmbeddingError) else "The file could not be processed."
    return {"code": "server_error", "message": text}


def _read(filename: str, data: bytes, sizes: Body) -> tuple[str, list[str]]:
    text = extract_text(filename, data)
    return text, chunk_text(text, sizes["max_chunk_size_tokens"], sizes["chunk_overlap_tokens"])
