"""What every test starts from: asyncio under anyio, and an environment that names no service."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# A busy machine is no defect: examples are bounded in number, not in time. HYPOTHESIS_PROFILE=thorough looks longer.
settings.register_profile("batchrun", deadline=None, max_examples=40)
settings.register_profile("thorough", deadline=None, max_examples=400)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "batchrun"))


def pytest_xdist_auto_num_workers() -> int:
    """More workers than cores: many tests wait for processes and sockets rather than compute."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of async tests; modules about time take `tests.support.virtual_time.BACKEND` instead."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_service_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "BATCHRUN_")):
            monkeypatch.delenv(name)
