"""The Ray cluster on which --ray runs the workers of a batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

from batchrun.batch.leader import StartWorker
from batchrun.batch.plan import Plan
from batchrun.batch.shard_worker import serve
from batchrun.errors import InputError

__all__ = ["ray_workers"]


def ray_workers(plan: Plan, stack: AsyncExitStack, notify: Callable[[str], None]) -> StartWorker:
    """Connect to the cluster of a plan; return what starts a worker there. `stack` ends the connection.

    Args:
        notify: shows a line about workers that wait for a place in the cluster.

    Raises:
        InputError: Ray is not installed, or there is no such cluster; or the embedded server would have to answer,
            which other machines cannot reach.
    """
    address = plan.job.ray
    assert address is not None
    if plan.destination.is_embedded and address != "local":
        raise InputError(
            "--ray: other machines cannot reach the embedded server of this process; run `batchrun serve` at an "
            "address that they reach and give it as --base-url, or use --ray local"
        )
    try:
        from batchrun.scale.ray_links import connected
    except ImportError:
        raise InputError("--ray: needs Ray: pip install 'batchrun-llm[ray]', on every machine of the cluster") from None
    return stack.enter_context(connected(address, serve, workers=plan.job.workers, notify=notify)).start
