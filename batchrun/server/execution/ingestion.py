"""The ingestion of files into vector stores."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from batchrun.server.execution.supervisor import Live, Supervisor
from batchrun.server.execution.vector_stores import refresh_store
from batchrun.server.replies.event_log import EventLog
from batchrun.server.search.file_search import EmbeddingError, ExtractionError, chunk_text
from batchrun.server.store.kinds import FILE, VECTOR_STORE_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchrun.server.execution.parts import Parts
    from batchrun.server.protocol.bodies import Body
    from batchrun.server.search.file_search import Vector

__all__ = ["Ingestion"]

logger = logging.getLogger("batchrun.server")


@dataclass(frozen=True, slots=True)
class _Content:
    """The content of a file, ready for a vector store.

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
        for owner, body in self._parts.objects.active(VECTOR_STORE_FILE):
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
        """Read, split and embed a file.

        Raises:
            ExtractionError: its text cannot be read.
            EmbeddingError: its text cannot be embedded.
        """
        parts = self._parts
        file = parts.objects.find(FILE, owner, body["id"])
        filename = file["filename"] if file is not None else body["id"]
        data = parts.blobs.read(body["id"])
        text = await parts.reader.text(filename, data)
        sizes = body["chunking_strategy"]["static"]
        chunks = await anyio.to_thread.run_sync(
            chunk_text, text, sizes["max_chunk_size_tokens"], sizes["chunk_overlap_tokens"]
        )
        # Embeddings may cost money, so a file that was removed while it waited is not embedded.
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
        """Return whether the file still waits for its ingestion."""
        current = self._parts.objects.find(VECTOR_STORE_FILE, owner, key)
        return current is not None and current["status"] == "in_progress"


def _last_error(failure: Exception) -> Body:
    """Return the `last_error` of a vector store file."""
    if isinstance(failure, ExtractionError):
        return {"code": "unsupported_file", "message": str(failure)}
    text = str(failure) if isinstance(failure, EmbeddingError) else "The file could not be processed."
    return {"code": "server_error", "message": text}
