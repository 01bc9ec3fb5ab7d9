"""A worker that reports what it has imported."""

from __future__ import annotations

import sys
from importlib import import_module

import anyio

from batchrun.scale.pipes import PipePort

__all__ = ["main"]


def main() -> None:
    """Import the program of a worker, and send the names of all modules."""
    import_module("batchrun.batch.shard_worker")

    async def report() -> None:
        await PipePort().send(set(sys.modules))

    anyio.run(report)
