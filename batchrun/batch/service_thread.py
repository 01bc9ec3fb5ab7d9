"""A row's thread, read back from the service that holds it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from batchrun.batch.lock import is_held
from batchrun.batch.paths import Paths
from batchrun.engine import Limits
from batchrun.errors import ServiceFault
from batchrun.job.environment import Environment
from batchrun.services.client import Endpoint
from batchrun.services.wire import BETA, Wire

__all__ = ["ThreadReader"]


@dataclass(frozen=True, slots=True)
class ThreadReader:
    """Where the threads of a batch are."""

    manifest: Mapping[str, Any]
    paths: Paths
    environment: Environment

    async def story(self, thread_id: str, run_id: str | None) -> dict[str, Any]:
        """Messages, run and steps of a thread, as the service tells them; or why it cannot be asked."""
        if not self.manifest["settings"]["embedded"]:
            key = self.environment.api_key
            if key is None and self.manifest["base_url"] is None:
                return {"unreachable": "set OPENAI_API_KEY to see the thread's messages and steps"}
            # Servers of one's own often want no key.
            endpoint = Endpoint(self.manifest["base_url"], key, certificates=self.environment.certificates)
            return await self._asked(endpoint, thread_id, run_id)
        if not self.paths.store.exists():
            return {"unreachable": f"{self.paths.store} with the threads is gone"}
        if is_held(self.paths.lock):
            return {"unreachable": "the batch is running; its embedded server answers when it has ended"}
        return await self._embedded(thread_id, run_id)

    async def _embedded(self, thread_id: str, run_id: str | None) -> dict[str, Any]:
        from batchrun.batch.endpoint import open_embedded

        with open_embedded(self.paths.store) as endpoint:
            return await self._asked(endpoint, thread_id, run_id)

    async def _asked(self, endpoint: Endpoint, thread_id: str, run_id: str | None) -> dict[str, Any]:
        if self.manifest["settings"]["api"] == "responses":
            return await _asked(endpoint, partial(_read_response, run_id=str(run_id)))
        return await _asked(endpoint, partial(_read_thread, thread_id=thread_id, run_id=run_id))


async def _asked(endpoint: Endpoint, tell: Callable[[Wire], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """What `tell` finds out over a connection of its own; or why it cannot."""
    wire = Wire(endpoint, Limits(), silence_timeout_s=30)
    try:
        return await tell(wire)
    except ServiceFault as fault:
        return {"unreachable": str(fault)}
    finally:
        await wire.aclose()


async def _read_thread(wire: Wire, *, thread_id: str, run_id: str | None) -> dict[str, Any]:
    """A thread's messages, and the run with its steps."""
    messages, _ = await wire.get(f"/threads/{thread_id}/messages", BETA, order="asc", limit=100)
    found = {"messages": messages["data"]}
    if run_id is not None:
        found["run"], _ = await wire.get(f"/threads/{thread_id}/runs/{run_id}", BETA)
        steps, _ = await wire.get(f"/threads/{thread_id}/runs/{run_id}/steps", BETA, order="asc", limit=100)
        found["steps"] = steps["data"]
    return found


async def _read_response(wire: Wire, *, run_id: str) -> dict[str, Any]:
    """A response, and the items that it answered."""
    response, _ = await wire.get(f"/responses/{run_id}", {})
    items, _ = await wire.get(f"/responses/{run_id}/input_items", {}, order="asc", limit=100)
    return {"response": response, "input_items": items["data"]}
