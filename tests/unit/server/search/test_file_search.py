"""Chunks and the index: chunks contain the whole text, and the best chunk comes first."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.server.search.file_search import EmbeddedIndex, Hit, SearchIndex, chunk_text

CATS = "The cat sat on the mat and purred."
DOGS = "A dog barks. Dogs are loyal animals that love running."
SHIPS = "Ships sail the sea; a captain steers the ship."


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(":memory:", isolation_level=None)
    yield opened
    opened.close()


@pytest.fixture
def index(connection: sqlite3.Connection) -> SearchIndex:
    filled = SearchIndex(connection)
    filled.add("vs_1", "file_a", "animals.txt", [CATS, DOGS])
    filled.add("vs_1", "file_b", "ships.txt", [SHIPS])
    filled.add("vs_2", "file_c", "other.txt", ["Cats and dogs live here."])
    return filled


texts = st.text(alphabet=st.sampled_from("abc \n\té漢🙂"), max_size=4000) | st.text(max_size=2000)


@given(texts, st.integers(100, 400), st.floats(0, 0.5))
@settings(deadline=None)
def test_chunks_hold_the_text(text: str, size: int, share: float) -> None:
    """No chunk is too large, each is a part of the text, in order, and together they contain every character."""
    chunks = chunk_text(text, size, int(size * share))
    whole = text.encode("utf-8", "replace").decode()
    covered = 0
    for chunk in chunks:
        assert len(chunk.encode()) <= 4 * size
        start = whole.find(chunk, max(0, covered - len(chunk)))
        assert start >= 0
        assert not whole[covered:start].strip()
        covered = max(covered, start + len(chunk))
    assert not whole[covered:].strip()


def test_chunks_end_between_words() -> None:
    """Chunks begin and end at white space, and repeat about the overlap."""
    words = [f"word{n:04}" for n in range(1000)]
    chunks = chunk_text(" ".join(words), 100, 50)
    assert all(set(chunk.split()) <= set(words) for chunk in chunks)
    shared = [len(set(a.split()) & set(b.split())) for a, b in itertools.pairwise(chunks)]
    assert min(shared) >= 21
    assert max(shared) <= 23


def test_default_sizes() -> None:
    """By default a chunk has up to 800 tokens and repeats 400."""
    chunks = chunk_text("x" * 12_800)
    assert [len(chunk) for chunk in chunks] == [3200] * 7
    assert chunk_text("") == []
    assert chunk_text("short") == ["short"]


@pytest.mark.parametrize(("size", "overlap"), [(99, 0), (4097, 0), (100, 51), (100, -1)])
def test_chunk_bounds(size: int, overlap: int) -> None:
    """Sizes outside the protocol's range are refused."""
    with pytest.raises(ValueError, match="tokens must be between"):
        chunk_text("x", size, overlap)


def test_best_first(index: SearchIndex) -> None:
    """The best chunk comes first with score 1, and words match by their stem."""
    assert index.search(["vs_1"], "loyal dog", 10) == [Hit("file_a", "animals.txt", 1, 1.0, DOGS)]
    assert index.search(["vs_1"], "sailing", 10)[0].file_id == "file_b"
    hits = index.search(["vs_1"], "the captain", 10)
    assert [hit.file_id for hit in hits] == ["file_b", "file_a"]
    assert 0 < hits[1].score < hits[0].score == 1


def test_threshold_and_limit(index: SearchIndex) -> None:
    """Hits below the threshold and beyond the limit are left out."""
    assert len(index.search(["vs_1"], "the captain", 1)) == 1
    assert [hit.score for hit in index.search(["vs_1"], "the captain", 10, score_threshold=0.99)] == [1.0]


def test_stores_are_apart(index: SearchIndex) -> None:
    """Only the named stores are searched."""
    assert [hit.file_id for hit in index.search(["vs_2"], "cat", 10)] == ["file_c"]
    assert {hit.file_id for hit in index.search(["vs_1", "vs_2"], "cat", 10)} == {"file_a", "file_c"}
    assert index.search([], "cat", 10) == []
    assert index.search(["vs_9"], "cat", 10) == []


def test_removal(index: SearchIndex) -> None:
    """A removed file is no longer found; removal without a file empties one store only."""
    index.remove("vs_1", "file_b")
    assert index.search(["vs_1"], "ship", 10) == []
    assert len(index.search(["vs_1"], "cat", 10)) == 1
    index.remove("vs_1", None)
    assert index.search(["vs_1"], "cat dog", 10) == []
    assert len(index.search(["vs_2"], "cat", 10)) == 1


def test_adding_again_replaces(index: SearchIndex) -> None:
    """A file that is added again replaces its earlier text."""
    index.add("vs_1", "file_b", "ships.txt", ["Trains roll."])
    assert index.search(["vs_1"], "ship", 10) == []
    assert [hit.text for hit in index.search(["vs_1"], "train", 10)] == ["Trains roll."]


def test_part_of_the_callers_transaction(connection: sqlite3.Connection, index: SearchIndex) -> None:
    """A rollback undoes additions of its transaction, and the index remains consistent."""
    connection.execute("BEGIN")
    index.add("vs_1", "file_z", "z.txt", ["zebra"])
    connection.execute("ROLLBACK")
    assert index.search(["vs_1"], "zebra", 10) == []
    connection.execute("INSERT INTO search_text (search_text) VALUES ('integrity-check')")


def test_failed_adding_changes_nothing(index: SearchIndex) -> None:
    """Vectors that do not match the chunks are refused before the old chunks are removed."""
    with pytest.raises(ValueError, match="expected 2 vectors, one for each chunk, got 1"):
        index.add("vs_1", "file_b", "ships.txt", ["a", "b"], [[1.0]])
    assert len(index.search(["vs_1"], "ship", 10)) == 1


@given(st.text(max_size=100))
@settings(deadline=None)
def test_any_query(query: str) -> None:
    """Any query is searched as words, without FTS5 syntax and without an error."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        index = SearchIndex(connection)
        index.add("vs", "f", "f.txt", [query or "x"])
        assert all(0 <= hit.score <= 1 for hit in index.search(["vs"], query, 5))
    finally:
        connection.close()


@pytest.mark.parametrize("query", ['"', "a AND", "NEAR(", "text:cat", "-cat", "*", "''", "cat" * 5000])
def test_query_syntax_is_inert(index: SearchIndex, query: str) -> None:
    """FTS5's operators in a query are ordinary words."""
    assert isinstance(index.search(["vs_1"], query, 10), list)


class ByLetters:
    """Embeds a text by the frequency of some letters, and records its calls."""

    def __init__(self) -> None:
        self.requests: list[int] = []

    async def __call__(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        self.requests.append(len(texts))
        return [[text.count("a"), text.count("b"), text.count("c")] for text in texts]


@pytest.mark.anyio
async def test_embeddings(connection: sqlite3.Connection) -> None:
    """With embeddings a chunk without any word of the query is found, and the best chunk of both rankings has score 1."""
    embedder = ByLetters()
    index = EmbeddedIndex(SearchIndex(connection), embedder, texts_per_request=2)
    await index.add("vs", "f", "f.txt", ["aaab", "bbb", "ccc"])
    assert embedder.requests == [2, 1]
    hits = await index.search(["vs"], "bbb", 3)
    assert [(hit.text, round(hit.score, 3)) for hit in hits] == [("bbb", 1.0), ("aaab", 0.492), ("ccc", 0.484)]
    hits = await index.search(["vs"], "cc bb", 3, score_threshold=0.49)
    assert [hit.text for hit in hits] == ["bbb", "ccc"]


def test_embeddings_of_another_model(connection: sqlite3.Connection) -> None:
    """Vectors of another length are not compared; their chunks are still found by words."""
    index = SearchIndex(connection)
    index.add("vs", "old", "old.txt", ["apples"], [[1.0, 0.0]])
    index.add("vs", "new", "new.txt", ["pears"], [[1.0, 0.0, 0.0]])
    assert [hit.file_id for hit in index.search(["vs"], "xyz", 5, 0.0, [0.0, 0.0, 0.0])] == ["new"]
    assert {hit.file_id for hit in index.search(["vs"], "apples", 5, 0.0, [1.0, 0.0, 0.0])} == {"old", "new"}
