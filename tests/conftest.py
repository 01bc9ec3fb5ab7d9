"""Fixtures of every test: its event loop, and an environment that names no service."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support import virtual_time

# The number of examples is bounded, not their time: a slow machine is not a defect. HYPOTHESIS_PROFILE=thorough runs more.
settings.register_profile("batchrun", deadline=None, max_examples=25)
settings.register_profile("thorough", deadline=None, max_examples=400)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "batchrun"))


# Under `nohup` and behind `&` a shell starts programs that ignore these signals, and so would every process of a test.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (getattr(signal, "SIGHUP", None), signal.SIG_DFL)):
    if number is not None and signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


# A process that may not store compiled modules compiles all that it imports: seconds for each command that a test starts.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# An HTTP client reads all certificates that it trusts, which takes 25 ms for the system's, also if it uses no TLS.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).parent / "data" / "tls" / "trusted.pem")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep what collection makes away from the garbage collector: it lives as long as the session, and has a million objects.

    A batch gives it back to the collector at its end. Full collections are therefore rare: each would take half a second.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        young, middle, _ = gc.get_threshold()
        gc.set_threshold(young, middle, 1_000)


def pytest_sessionfinish() -> None:
    """Find the garbage of the session once: pytest passes over everything five times to find it."""
    gc.collect()
    gc.freeze()


def pytest_xdist_auto_num_workers() -> int:
    """More workers than cores: many tests wait for processes and sockets rather than compute."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str | tuple[str, dict[str, Any]]:
    """Return the event loop of async tests: asyncio's own, or under `pytest.mark.virtual_time` one whose clock jumps."""
    return virtual_time.BACKEND if request.node.get_closest_marker("virtual_time") else "asyncio"


@pytest.fixture(autouse=True)
def _no_service_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "BATCHRUN_")):
            monkeypatch.delenv(name)
