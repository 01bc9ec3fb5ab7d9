"""Files that would occupy a parser for hours or fill the memory are failed files, soon."""

from __future__ import annotations

import io
import json
import zipfile

import anyio
import pytest

from batchrun.server.search.extraction import ExtractionError, extract_text
from batchrun.server.search.text_reader import ReadingLimits, TextReader

pytestmark = pytest.mark.anyio

SMALL = ReadingLimits(cpu_s=1, cpu_s_per_mb=0)


def _word(body: str) -> bytes:
    """Return a Word document with this body."""
    buffer = io.BytesIO()
    namespace = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", f'<w:document xmlns:w="{namespace}">{body}</w:document>')
    return buffer.getvalue()


@pytest.fixture(scope="module")
def slow() -> bytes:
    """Return a document of 90 kB whose 60 MB of markup have no text."""
    return _word("<w:t/>" * 10_000_000)


async def test_a_document_is_read() -> None:
    """A document in a process of its own has the same text as here, and the same error."""
    data = _word("<w:p><w:t>Grüße 🙂</w:t></w:p>" * 3)
    assert await TextReader().text("a.docx", data) == extract_text("a.docx", data) == "Grüße 🙂\n" * 2 + "Grüße 🙂"
    with pytest.raises(ExtractionError, match=r"^a\.docx: is a damaged or protected Word document"):
        await TextReader().text("a.docx", b"no archive")


async def test_a_large_file_of_any_format_is_read_apart() -> None:
    """A large file of a simple format is read within the limits too."""
    values = json.dumps([[]] * 1_000_000).encode()
    with pytest.raises(ExtractionError, match="MiB of memory; split it"):
        await TextReader(ReadingLimits(memory_bytes=40 << 20)).text("a.json", values)


async def test_a_slow_document_is_a_failed_file(slow: bytes) -> None:
    """A document that needs more time than its limit is given up, and the error names the limit."""
    with pytest.raises(ExtractionError, match=r"^a\.docx: reading it takes more than 1 s; split it"):
        await TextReader(SMALL).text("a.docx", slow)


async def test_a_document_that_nobody_waits_for_is_given_up(slow: bytes) -> None:
    """Cancelling the wait for a text ends its process."""
    with anyio.fail_after(20), anyio.CancelScope() as scope:
        scope.deadline = anyio.current_time() + 0.2
        await TextReader().text("a.docx", slow)
    assert scope.cancelled_caught


def test_the_time_depends_on_the_size() -> None:
    """A larger file gets more time, up to a maximum."""
    limits = ReadingLimits()
    assert [limits.time_of(size) for size in (0, 1_000_000, 10**9)] == [20, 30, 300]
