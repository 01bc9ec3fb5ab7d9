"""Workers that are processes of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrun.scale.pipes import start_process


@pytest.mark.anyio
async def test_a_worker_imports_little(tmp_path: Path) -> None:
    """A worker process imports the SDK without its classes of requests and replies, which take half of its start."""
    link = await start_process("worker 1", "tests.support.light_worker", tmp_path / "worker.log")
    try:
        modules = await link.receive()
    finally:
        await link.aclose()
    assert isinstance(modules, set)
    assert {"openai", "batchrun.batch.shard_worker"} <= modules
    assert (
        modules & {"openai.resources", "openai.types.responses.response", "openai.types.beta", "pandas", "numpy"}
        == set()
    )
