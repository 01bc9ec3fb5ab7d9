"""LiteLLM's proxy as a process: a compatible server from another project, with fixed answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

__all__ = ["ANSWER", "INSTALLED", "KEY", "free_port", "running"]

EXECUTABLE = Path(__file__).parents[3] / ".venv-compat" / "bin" / "litellm"
INSTALLED = EXECUTABLE.exists()
KEY = "sk-compat-0123456789"
ANSWER = "Forty-two."
START_TIMEOUT_S = 180.0

MOCKED = {"mocked": ANSWER, "limited": "litellm.RateLimitError", "long": "litellm.ContextWindowExceededError"}
"""Model → what LiteLLM answers, or the error that it makes of the words."""

BRIDGED = "bridged"
"""A model whose provider knows Chat Completions only: LiteLLM translates Responses into them, streams included,
and asks itself."""

UPSTREAM_KEY = "sk-upstream-0123456789"


def _configuration(port: int, upstream: str | None) -> dict[str, Any]:
    mocked = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_key": "none", "mock_response": answer}}
        for name, answer in MOCKED.items()
    ]
    itself = {"model": "deepseek/mocked", "api_base": f"http://127.0.0.1:{port}/v1", "api_key": KEY}
    return {
        "model_list": [*mocked, {"model_name": BRIDGED, "litellm_params": itself}],
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
        "general_settings": {"master_key": KEY},
        "files_settings": [{"custom_llm_provider": "openai", "api_base": upstream, "api_key": UPSTREAM_KEY}]
        if upstream is not None
        else [],
    }


def free_port() -> int:
    """Return a TCP port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


@contextmanager
def running(folder: Path, upstream: str | None = None) -> Iterator[str]:
    """Run the proxy inside a `with` block; yield its base URL.

    Args:
        upstream: base URL of the server to which files and batches of the Batch API go.
    """
    port = free_port()
    configuration, log = folder / "config.yaml", folder / "litellm.log"
    configuration.write_text(json.dumps(_configuration(port, upstream)))  # JSON is YAML
    command = [str(EXECUTABLE), "--config", str(configuration), "--host", "127.0.0.1", "--port", str(port)]
    # Without the network: no list of prices is fetched, nothing is reported.
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "DISABLE_ADMIN_UI": "True"}
    if upstream is not None:  # its lists of batches, cancellations and deletions of files take these instead
        quiet |= {"OPENAI_API_BASE": upstream, "OPENAI_BASE_URL": upstream, "OPENAI_API_KEY": UPSTREAM_KEY}
    with (
        log.open("w") as output,
        subprocess.Popen(
            command, cwd=folder, env={**os.environ, **quiet}, stdout=output, stderr=output, start_new_session=True
        ) as process,
    ):
        try:
            _wait(process, f"http://127.0.0.1:{port}/health/liveliness", log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx2.get(url, timeout=5).status_code == 200:
                return
        except httpx2.HTTPError:
            time.sleep(0.2)
    raise AssertionError(f"LiteLLM did not start:\n{log.read_text()[-2_000:]}")
