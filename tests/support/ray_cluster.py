"""A Ray cluster of three nodes on this machine; Ray is imported when the cluster starts, since it is an extra."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

__all__ = ["HeadAndNodes", "cluster"]

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_raylet_start_wait_time_s", "100")


class HeadAndNodes:
    """A head node without CPUs, and worker nodes of one CPU each.

    Mutable state: `_nodes`, those that run.
    """

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False},
        )
        self._nodes: list[Any] = []

    @property
    def address(self) -> str:
        """HOST:PORT of the head node."""
        return f"127.0.0.1:{self._cluster.address.rpartition(':')[2]}"

    def add_node(self) -> None:
        """Add a node with one CPU."""
        self._nodes.append(self._cluster.add_node(num_cpus=1))

    def lose_node(self) -> None:
        """Kill the oldest node: its raylet, and all processes that it started, all at the same moment."""
        self._cluster.remove_node(self._nodes.pop(0), allow_graceful=False)

    @staticmethod
    def workers() -> list[psutil.Process]:
        """Return the processes of batchrun's workers that are running on the nodes."""
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "".join(process.cmdline()).startswith("ray::RayWorker"):
                    found.append(process)
        return found

    def stop(self) -> None:
        """End all nodes."""
        self._cluster.shutdown()


@contextmanager
def cluster(nodes: int) -> Iterator[HeadAndNodes]:
    """Start a cluster; end it with the context."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    found = HeadAndNodes()
    try:
        for _ in range(nodes):
            found.add_node()
        yield found
    finally:
        found.stop()
        for number, handler in handlers.items():  # Ray takes SIGTERM for itself
            signal.signal(number, handler)
