"""A server process that can be killed: `python -m tests.integration.server.crashing DATA_FILE SCRIPT`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from batchrun.server import ServerSettings, serve_forever
from batchrun.server.responders.base import Conversation, Finish, Part, TextDelta
from tests.integration.server.scripted import Scripted, call_functions, echo, forever


async def by_word(conversation: Conversation) -> AsyncIterator[Part]:
    """Call a function, stall, or echo, as the last message asks: `call`, `stall` or any other text."""
    word = conversation.messages[-1].text
    script = forever if word == "stall" else call_functions if conversation.tools else echo
    async for part in script(conversation):
        yield part


async def slowly(conversation: Conversation) -> AsyncIterator[Part]:
    """Echo the last message, with a pause in which the process can be killed."""
    yield TextDelta("You ")
    await anyio.sleep(0.002)
    yield TextDelta(conversation.messages[-1].text)
    yield Finish("stop")


async def stuck(_: Conversation) -> AsyncIterator[Part]:
    """Wait in a thread that nothing ends."""
    yield TextDelta("You ")
    await anyio.to_thread.run_sync(threading.Event().wait)
    yield Finish("stop")


SCRIPTS = {"by_word": by_word, "echo": echo, "slowly": slowly, "stuck": stuck}


@contextmanager
def killed(data: Path, script: str) -> Iterator[str]:
    """Yield the URL of a server process, which gets a SIGKILL at the end."""
    command = [sys.executable, "-m", __name__, str(data), script]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            os.kill(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    serve_forever(
        ServerSettings(data=Path(sys.argv[1]), shutdown_grace_s=0 if sys.argv[2] == "stuck" else 3),
        Scripted(SCRIPTS[sys.argv[2]]),
        on_started=lambda url: print(url, flush=True),
    )
