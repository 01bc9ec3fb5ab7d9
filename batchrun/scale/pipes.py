"""Workers that are processes of this machine: messages are pickles through pipes, each behind its length."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from pathlib import Path
from typing import IO, Final

import anyio
import anyio.abc

from batchrun.scale.links import LeaderLost, WorkerLost
from batchrun.scale.shards import usable_files

__all__ = ["PipePort", "ProcessLink", "start_process"]

_LENGTH_SIZE: Final = 8
END_TIMEOUT_S: Final = 10.0
"""Time that a process has to end after its input has ended; it is killed then."""
SHOWN_CHARS: Final = 300


def _framed(message: object) -> bytes:
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return len(content).to_bytes(_LENGTH_SIZE, "big") + content


class _Frames:
    """Messages from a stream of bytes.

    Mutable state: `_rest`, bytes of a message that is not complete. It stays if `next` is cancelled.
    """

    def __init__(self, stream: anyio.abc.ByteReceiveStream) -> None:
        self._stream = stream
        self._rest = bytearray()

    async def next(self) -> object:
        """Return the next message.

        Raises:
            EndOfStream, ClosedResourceError, BrokenResourceError: there is none.
        """
        while True:
            end = _LENGTH_SIZE + int.from_bytes(self._rest[:_LENGTH_SIZE], "big")
            if _LENGTH_SIZE <= len(self._rest) >= end:
                found = bytes(self._rest[_LENGTH_SIZE:end])
                del self._rest[:end]
                return pickle.loads(found)
            self._rest += await self._stream.receive(1 << 20)


_ENDED: Final = (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError, OSError)


class ProcessLink:
    """A worker process, as its leader sees it.

    Mutable state: the process and its pipes.
    """

    def __init__(self, name: str, process: anyio.abc.Process, log: Path, log_file: IO[bytes]) -> None:
        """
        Args:
            log: the file into which its standard error goes.
        """
        assert process.stdin is not None
        assert process.stdout is not None
        self.name = name
        self._process = process
        self._log, self._log_file = log, log_file
        self._input = process.stdin
        self._frames = _Frames(process.stdout)
        self._sending = anyio.Lock()

    async def send(self, message: object) -> None:
        """See `Link`."""
        try:
            async with self._sending:
                await self._input.send(_framed(message))
        except _ENDED:
            raise WorkerLost(await self._how_it_ended()) from None

    async def receive(self) -> object:
        """See `Link`."""
        try:
            return await self._frames.next()
        except _ENDED:
            raise WorkerLost(await self._how_it_ended()) from None

    async def _how_it_ended(self) -> str:
        with anyio.move_on_after(END_TIMEOUT_S):
            await self._process.wait()
        code = self._process.returncode
        if code is None:
            return "closed its output without ending"
        if code < 0:
            try:
                return f"was ended by {signal.Signals(-code).name}"
            except ValueError:
                return f"was ended by signal {-code}"
        last = self._last_line()
        return f"ended with exit code {code}" + (f": {last}" if last else "")

    def _last_line(self) -> str:
        lines = self._log.read_text("utf-8", "replace").splitlines() if self._log.exists() else []
        texts = [line.strip(" |+-") for line in lines]  # without the frames of an exception group
        return next((text[:SHOWN_CHARS] for text in reversed(texts) if text), "")

    async def aclose(self) -> None:
        """See `Link`."""
        with anyio.CancelScope(shield=True):
            await self._input.aclose()
            with anyio.move_on_after(END_TIMEOUT_S):
                await self._process.wait()
            if self._process.returncode is None:
                self._process.kill()
            await self._process.aclose()
        self._log_file.close()
        if (self._process.returncode or 0) <= 0:  # else its last lines say what was wrong, for whoever looks there
            if sys.stderr is not None and self._log.exists():
                sys.stderr.write(self._log.read_text("utf-8", "replace"))
            self._log.unlink(missing_ok=True)


async def start_process(name: str, module: str, log: Path) -> ProcessLink:
    """Start `main()` of a module as a worker.

    It finds the modules that this process finds: `python -m` would also look in the working directory, where a file of
    the user may have the name of any module. It imports the SDK without its types, and before `module`, which imports
    all of it. It has a session of its own, so that Ctrl-C on a terminal reaches only the leader.

    Args:
        log: gets what it prints, which is printed here when it has ended.

    Raises:
        OutputError: the process cannot be started, or `log` cannot be written.
    """
    program = f"""
import sys
sys.path[:] = {list(map(str, sys.path))}
from batchrun.sdk_import import import_sdk
import_sdk()
from {module} import main
main()
"""
    command = [sys.executable, "-c", program]
    with usable_files(log):
        log_file = log.open("wb")
        process = await anyio.open_process(command, stderr=log_file, start_new_session=True)
    return ProcessLink(name, process, log, log_file)


class PipePort:
    """The leader, as a worker process sees it: messages come by standard input and go by standard output.

    Whatever else the process prints goes to standard error, so that it cannot fall between two messages.
    """

    def __init__(self) -> None:
        self._messages = _Frames(_Descriptor(os.dup(0)))
        self._output = os.dup(1)
        os.set_blocking(self._output, False)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        self._sending = anyio.Lock()

    async def send(self, message: object) -> None:
        """See `Port`."""
        content = memoryview(_framed(message))
        async with self._sending:
            while content:
                try:
                    await anyio.wait_writable(self._output)
                    content = content[os.write(self._output, content[: 1 << 15]) :]
                except BlockingIOError:
                    continue
                except OSError:
                    raise LeaderLost from None

    async def receive(self) -> object:
        """See `Port`."""
        try:
            return await self._messages.next()
        except _ENDED:
            raise LeaderLost from None


class _Descriptor(anyio.abc.ByteReceiveStream):
    """The bytes of a pipe."""

    def __init__(self, number: int) -> None:
        self._number = number

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        await anyio.wait_readable(self._number)
        content = os.read(self._number, max_bytes)
        if not content:
            raise anyio.EndOfStream
        return content

    async def aclose(self) -> None:
        os.close(self._number)
