"""The extraction of text from uploaded files, bounded in time and memory.

A document of a few kilobytes can occupy a parser for hours. So documents are read in a process of their own,
which is killed at its limits and when nobody waits for the text any more. Only small files of formats that are read in
time proportional to their size are read in a thread, because a process costs more than they do.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import PurePath

import anyio
import anyio.abc
import anyio.to_thread

from batchrun.server.search import extraction
from batchrun.server.search.extraction import MAX_TEXT_BYTES, ExtractionError, extract_text

__all__ = ["ReadingLimits", "TextReader"]

_AT_ONCE = 4
_IN_THREAD_BYTES = 1 << 20
_DOCUMENTS = frozenset({".pdf", ".docx"})
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ReadingLimits:
    """The limits for one file. A file that exceeds one cannot be read.

    Attributes:
        cpu_s: CPU time for a file of no size, in seconds.
        cpu_s_per_mb: further CPU time for each 1,000,000 bytes of the file, in seconds.
        max_cpu_s: the longest CPU time, in seconds. Time on the clock is limited to twice the CPU time.
        memory_bytes: address space of the process besides the file itself, in bytes.
    """

    cpu_s: float = 20
    cpu_s_per_mb: float = 10
    max_cpu_s: float = 300
    memory_bytes: int = 1 << 30

    def time_of(self, size: int) -> int:
        """Return the CPU time for a file of `size` bytes, in whole seconds."""
        return max(1, round(min(self.max_cpu_s, self.cpu_s + self.cpu_s_per_mb * size / 1e6)))


class TextReader:
    """Extracts texts, few at once.

    Mutable state: the semaphore that admits processes.
    """

    def __init__(self, limits: ReadingLimits | None = None) -> None:
        self._limits = limits or ReadingLimits()
        self._slots = anyio.Semaphore(_AT_ONCE)

    async def text(self, filename: str, data: bytes) -> str:
        """Return the text of a file; see `extract_text`.

        Raises:
            ExtractionError: the text cannot be extracted, or extraction exceeded a limit.
        """
        if len(data) <= _IN_THREAD_BYTES and PurePath(filename).suffix.lower() not in _DOCUMENTS:
            return await anyio.to_thread.run_sync(extract_text, filename, data)
        async with self._slots:
            return await self._read(filename, data)

    async def _read(self, filename: str, data: bytes) -> str:
        cpu_s = self._limits.time_of(len(data))
        memory_bytes = self._limits.memory_bytes + 2 * len(data)
        head = {"filename": filename, "cpu_s": cpu_s, "memory_bytes": memory_bytes, "path": sys.path}
        # If it were cancelled in between, asyncio would lose a process that it has started already.
        with anyio.CancelScope(shield=True):
            process = await anyio.open_process(
                [sys.executable, "-I", "-B", extraction.__file__], stderr=subprocess.DEVNULL, start_new_session=True
            )
        try:
            with anyio.fail_after(2 * cpu_s):
                reply = await _exchange(process, json.dumps(head).encode() + b"\n" + data)
                code = await process.wait()
        except TimeoutError:
            raise _too_slow(filename, cpu_s) from None
        finally:
            if process.returncode is None:
                process.kill()
            with anyio.CancelScope(shield=True):
                await process.aclose()
        if code == 0 and reply[:1] == b"+":
            return reply[1:].decode()
        if code == 0 and reply[:1] == b"-":
            raise ExtractionError(reply[1:].decode())
        if code == -_SIGXCPU:
            raise _too_slow(filename, cpu_s)
        raise ExtractionError(f"{filename}: cannot be read (its reader ended with code {code}); convert it to text")


_SIGXCPU = 24


def _too_slow(filename: str, cpu_s: int) -> ExtractionError:
    return ExtractionError(f"{filename}: reading it takes more than {cpu_s} s; split it, or convert it to text")


async def _exchange(process: anyio.abc.Process, sent: bytes) -> bytes:
    """Return what the process replies. It reads everything before it writes, or ends."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        await process.stdin.send(sent)
        await process.stdin.aclose()
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        return b""
    pieces: list[bytes] = []
    size = 0
    while size <= MAX_TEXT_BYTES + _PIECE_BYTES:
        try:
            pieces.append(await process.stdout.receive(_PIECE_BYTES))
        except anyio.EndOfStream:
            break
        size += len(pieces[-1])
    return b"".join(pieces)
