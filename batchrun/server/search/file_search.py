"""File search: texts are split into chunks and ranked by BM25 in SQLite's FTS5, optionally also by embeddings."""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from batchrun.server.search.extraction import ExtractionError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "EmbeddedIndex",
    "Embedder",
    "EmbeddingError",
    "ExtractionError",
    "Hit",
    "SearchIndex",
    "Vector",
    "chunk_text",
]

logger = logging.getLogger("batchrun.server")

Vector: TypeAlias = "Sequence[float] | npt.NDArray[np.float32]"
"""An embedding of any length above 0, not scaled."""

_BYTES_PER_TOKEN = 4
_MAX_QUERY_WORDS = 64
_VECTORS_AT_ONCE = 2_000

_RANK_CONSTANT = 60
"""k of reciprocal rank fusion, as in its paper (Cormack, Clarke, Büttcher: SIGIR 2009)."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS search_chunks (
    id INTEGER PRIMARY KEY,
    store_id TEXT NOT NULL,
    file_id TEXT NOT NULL,
    filename TEXT NOT NULL,
    chunk_index INTEGER NOT NULL,
    text TEXT NOT NULL,
    vector BLOB
);
CREATE INDEX IF NOT EXISTS search_chunks_by_file ON search_chunks (store_id, file_id);
CREATE VIRTUAL TABLE IF NOT EXISTS search_text USING fts5 (
    text, content = 'search_chunks', content_rowid = 'id', tokenize = 'porter unicode61'
);
"""


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that matches a query.

    Attributes:
        chunk_index: position of the chunk in its file, from 0.
        score: 0 to 1, larger is better; see `SearchIndex.search`.
    """

    file_id: str
    filename: str
    chunk_index: int
    score: float
    text: str


def chunk_text(text: str, max_chunk_size_tokens: int = 800, chunk_overlap_tokens: int = 400) -> list[str]:
    """Split a text into overlapping chunks, at white space if there is some near the end of the chunk.

    A token is 4 bytes of UTF-8. No chunk is larger than `max_chunk_size_tokens`; together they contain every
    word of the text.

    Args:
        max_chunk_size_tokens: 100 to 4096.
        chunk_overlap_tokens: tokens of the preceding chunk that a chunk repeats; at most half a chunk.

    Raises:
        ValueError: an argument is out of its range.
    """
    if not 100 <= max_chunk_size_tokens <= 4096:
        raise ValueError(f"max_chunk_size_tokens must be between 100 and 4096, got {max_chunk_size_tokens}")
    if not 0 <= chunk_overlap_tokens <= max_chunk_size_tokens // 2:
        raise ValueError(
            f"chunk_overlap_tokens must be between 0 and half of max_chunk_size_tokens, got {chunk_overlap_tokens}"
        )
    data = text.encode("utf-8", "replace")
    size, overlap = max_chunk_size_tokens * _BYTES_PER_TOKEN, chunk_overlap_tokens * _BYTES_PER_TOKEN
    chunks: list[str] = []
    start = 0
    while start < len(data):
        end = _chunk_end(data, start, size)
        chunk = data[start:end].decode().strip()
        if chunk:
            chunks.append(chunk)
        if end == len(data):
            break
        # A chunk is at least three quarters full and repeats at most half, so the start always advances.
        start = _word_start(data, end - overlap, end)
    return chunks


_SPACE = re.compile(rb"\s")
_LAST_SPACE = re.compile(rb".*\s", re.S)


def _chunk_end(data: bytes, start: int, size: int) -> int:
    if start + size >= len(data):
        return len(data)
    end = start + size
    space = _LAST_SPACE.match(data, end - size // 4, end)
    return space.end() if space else _character_start(data, end)


def _word_start(data: bytes, earliest: int, latest: int) -> int:
    """Return the first start of a word from `earliest` on, or of a character if there is no space before `latest`."""
    if earliest >= latest or _SPACE.match(data, earliest - 1):
        return min(earliest, latest)
    space = _SPACE.search(data, earliest, latest)
    return space.end() if space else _character_start(data, earliest)


def _character_start(data: bytes, position: int) -> int:
    while position and data[position] & 0xC0 == 0x80:
        position -= 1
    return position


class SearchIndex:
    """Chunks of files by vector store, in tables of a SQLite connection that the caller owns.

    Nothing is committed here: each call is atomic, and part of the caller's transaction if one is open.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        for statement in _SCHEMA.split(";\n"):
            if statement.strip():
                connection.execute(statement)

    def add(
        self,
        store_id: str,
        file_id: str,
        filename: str,
        chunks: Sequence[str],
        vectors: Sequence[Vector] | None = None,
    ) -> None:
        """Add a file's chunks to a store, and replace the file's earlier ones.

        Args:
            vectors: one embedding for each chunk, of any length; None for a search by words only.
        """
        blobs = [None] * len(chunks) if vectors is None else [_unit(vector).tobytes() for vector in vectors]
        if len(blobs) != len(chunks):
            raise ValueError(f"expected {len(chunks)} vectors, one for each chunk, got {len(blobs)}")
        with self._atomic():
            self._remove(store_id, file_id)
            for number, (chunk, blob) in enumerate(zip(chunks, blobs, strict=True)):
                rowid = self._connection.execute(
                    "INSERT INTO search_chunks (store_id, file_id, filename, chunk_index, text, vector)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (store_id, file_id, filename, number, chunk, blob),
                ).lastrowid
                self._connection.execute("INSERT INTO search_text (rowid, text) VALUES (?, ?)", (rowid, chunk))

    def remove(self, store_id: str, file_id: str | None) -> None:
        """Remove a file from a store; None removes all files."""
        with self._atomic():
            self._remove(store_id, file_id)

    def search(
        self,
        store_ids: Sequence[str],
        query: str,
        limit: int,
        score_threshold: float = 0.0,
        query_vector: Vector | None = None,
    ) -> list[Hit]:
        """Return the best chunks for a query, best first.

        By words alone the score is `bm25 / best bm25 of this search`: 1 for the best hit. With a query vector it is
        the reciprocal rank fusion of both rankings, `(1/(60 + rank by words) + 1/(60 + rank by cosine)) * 61/2`. Ranks
        count from 1, and a ranking without the chunk contributes 0. So the best chunk of both rankings has 1.

        Args:
            store_ids: vector stores to search.
            limit: maximum of hits.
            score_threshold: lowest score of a hit.
            query_vector: embedding of the query; None to rank by words alone.
        """
        # The fusion needs chunks that are good in one ranking and only middling in the other.
        depth = limit if query_vector is None else max(limit, 50)
        by_words = self._by_words(store_ids, query, depth)
        if query_vector is None:
            best = max(by_words.values(), default=1.0)
            scores = {rowid: value / best for rowid, value in by_words.items()}
        else:
            scores = _fused([list(by_words), self._by_cosine(store_ids, query_vector, depth)])
        ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:limit]
        return [self._hit(rowid, score) for rowid, score in ranked if score >= score_threshold]

    def _by_words(self, store_ids: Sequence[str], query: str, limit: int) -> dict[int, float]:
        """Return rowid → relevance (larger is better), best first."""
        words = list(dict.fromkeys(re.findall(r"\w+", query.lower())))[:_MAX_QUERY_WORDS]
        if not words or not store_ids:
            return {}
        # Quoted, so that FTS5 does not read a word as an operator of its query language.
        match = " OR ".join(f'"{word}"' for word in words)
        rows = self._connection.execute(
            "SELECT c.id, -bm25(search_text) AS relevance"
            " FROM search_text JOIN search_chunks AS c ON c.id = search_text.rowid"
            f" WHERE search_text MATCH ? AND c.store_id IN ({_marks(store_ids)})"
            " ORDER BY relevance DESC, c.id LIMIT ?",
            (match, *store_ids, limit),
        )
        return {rowid: relevance for rowid, relevance in rows if relevance > 0}

    def _by_cosine(self, store_ids: Sequence[str], query_vector: Vector, limit: int) -> list[int]:
        """Return rowids, best first. Chunks whose embedding has another length (from another model) are left out."""
        import numpy as np

        query = _unit(query_vector)
        rows = self._connection.execute(
            f"SELECT id, vector FROM search_chunks WHERE store_id IN ({_marks(store_ids)}) AND length(vector) = ?",
            (*store_ids, query.nbytes),
        )
        best: list[tuple[float, int]] = []
        while batch := rows.fetchmany(_VECTORS_AT_ONCE):
            matrix = np.frombuffer(b"".join(blob for _, blob in batch), dtype="<f4").reshape(len(batch), -1)
            found = zip((matrix @ query).tolist(), (rowid for rowid, _ in batch), strict=True)
            best = sorted([*best, *found], key=lambda item: (-item[0], item[1]))[:limit]
        return [rowid for _, rowid in best]

    def _hit(self, rowid: int, score: float) -> Hit:
        row = self._connection.execute(
            "SELECT file_id, filename, chunk_index, text FROM search_chunks WHERE id = ?", (rowid,)
        ).fetchone()
        file_id, filename, chunk_index, text = row
        return Hit(file_id, filename, chunk_index, score, text)

    def _remove(self, store_id: str, file_id: str | None) -> None:
        where = "store_id = ? AND (? IS NULL OR file_id = ?)"
        key = (store_id, file_id, file_id)
        # An FTS5 table with external content needs the text of deleted rows (sqlite.org/fts5.html §6.7).
        self._connection.execute(
            "INSERT INTO search_text (search_text, rowid, text)"
            f" SELECT 'delete', id, text FROM search_chunks WHERE {where}",
            key,
        )
        self._connection.execute(f"DELETE FROM search_chunks WHERE {where}", key)

    @contextmanager
    def _atomic(self) -> Iterator[None]:
        self._connection.execute("SAVEPOINT search_index")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK TO search_index")
            raise
        finally:
            self._connection.execute("RELEASE search_index")


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" for _ in values)


def _unit(vector: Vector) -> npt.NDArray[np.float32]:
    import numpy as np

    """Return the vector scaled to length 1, so that the product of two vectors is their cosine."""
    array: npt.NDArray[np.float32] = np.asarray(vector, dtype="<f4")
    length = np.float32(np.linalg.norm(array))
    return array if length == 0 else np.divide(array, length, dtype=np.float32)


def _fused(rankings: Sequence[Sequence[int]]) -> dict[int, float]:
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, rowid in enumerate(ranking, 1):
            scores[rowid] = scores.get(rowid, 0.0) + 1 / (_RANK_CONSTANT + rank)
    return {rowid: score * (_RANK_CONSTANT + 1) / len(rankings) for rowid, score in scores.items()}


class EmbeddingError(Exception):
    """Texts could not be embedded; the message states why, in one line that clients may see."""


class Embedder(Protocol):
    """Turns texts into vectors of one length, such as a call of an embeddings endpoint."""

    async def __call__(self, texts: Sequence[str]) -> Sequence[Vector]:
        """Return one vector for each text, in order.

        Raises:
            EmbeddingError: the texts cannot be embedded.
        """
        ...


class EmbeddedIndex:
    """A `SearchIndex` that ranks by embeddings too.

    Args:
        texts_per_request: texts per call of the embedder. 64 chunks of the largest size, 4096 tokens, stay below the
            hosted API's limit of 300,000 tokens per request.
    """

    def __init__(self, index: SearchIndex, embedder: Embedder, *, texts_per_request: int = 64) -> None:
        self._index = index
        self._embedder = embedder
        self._texts_per_request = texts_per_request

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return one vector for each text.

        Raises:
            EmbeddingError: the embedder raised it, or returned another number of vectors.
        """
        vectors: list[Vector] = []
        for start in range(0, len(texts), self._texts_per_request):
            batch = texts[start : start + self._texts_per_request]
            embedded = await self._embedder(batch)
            if len(embedded) != len(batch):
                raise EmbeddingError(f"The embedder returned {len(embedded)} vectors for {len(batch)} texts.")
            vectors += embedded
        return vectors

    async def query_vector(self, query: str) -> Vector | None:
        """Return the query's vector; None, with a warning in the log, if the search must rank by words alone."""
        if not query.strip():
            return None
        try:
            (vector,) = await self.embed([query])
        except EmbeddingError as exc:
            logger.warning("a search ranks by words alone: %s", exc)
            return None
        except Exception:
            # Callers can write embedders too. A fault in one costs the ranking by meaning, but not the answer.
            logger.warning("a search ranks by words alone: the embedder failed", exc_info=True)
            return None
        return vector

    async def add(self, store_id: str, file_id: str, filename: str, chunks: Sequence[str]) -> None:
        """Embed the chunks and add them to the store. If the embedder fails, nothing is stored."""
        self._index.add(store_id, file_id, filename, chunks, await self.embed(chunks))

    async def search(self, store_ids: Sequence[str], query: str, limit: int, score_threshold: float = 0.0) -> list[Hit]:
        """Return the best chunks by words and meaning, or by words alone; see `SearchIndex.search`."""
        vector = await self.query_vector(query) if store_ids else None
        return self._index.search(store_ids, query, limit, score_threshold, vector)
