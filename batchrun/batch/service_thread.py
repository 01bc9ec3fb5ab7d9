"""Reads a row's thread back from the service that holds it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypedDict

from batchrun.batch.endpoint import open_embedded
from batchrun.batch.lock import is_held
from batchrun.batch.paths import Paths
from batchrun.engine import Limits
from batchrun.errors import ServiceFault
from batchrun.job.environment import Environment
from batchrun.records import JsonObject, Manifest
from batchrun.services.client import Endpoint
from batchrun.services.wire import BETA, Wire

__all__ = ["ThreadFacts", "ThreadReader"]

SILENCE_TIMEOUT_S = 30


class ThreadFacts(TypedDict, total=False):
    """A thread as its service holds it.

    Assistants API: `messages`, and `run` with `steps` if the row's run is known. Responses API: `response` with its
    `input_items`. If the service cannot be asked: `unreachable`, the reason for people.
    """

    messages: list[JsonObject]
    run: JsonObject
    steps: list[JsonObject]
    response: JsonObject
    input_items: list[JsonObject]
    unreachable: str


@dataclass(frozen=True, slots=True)
class ThreadReader:
    """Reads threads of one batch, wherever its service is.

    Attributes:
        manifest: of the batch, from its journal.
    """

    manifest: Manifest
    paths: Paths
    environment: Environment

    async def read(self, thread_id: str, run_id: str | None) -> ThreadFacts:
        """Return a thread; or `unreachable`, if the service cannot be asked."""
        base_url = self.manifest["base_url"]
        if not self.manifest["settings"]["embedded"]:
            key = self.environment.api_key
            if key is None and base_url is None:
                return {"unreachable": "set OPENAI_API_KEY to see the thread's messages and steps"}
            # Without a key all the same: a local server often needs none.
            endpoint = Endpoint(base_url, key, certificates=self.environment.certificates)
            return await self._read_from(endpoint, thread_id, run_id)
        if not self.paths.store.exists():
            return {"unreachable": f"{self.paths.store}, which held the threads, no longer exists"}
        if is_held(self.paths.lock):
            return {"unreachable": "the batch is running: its embedded server can be asked after its end"}
        with open_embedded(self.paths.store) as endpoint:
            return await self._read_from(endpoint, thread_id, run_id)

    async def _read_from(self, endpoint: Endpoint, thread_id: str, run_id: str | None) -> ThreadFacts:
        if self.manifest["settings"]["api"] == "responses":
            return await _read(endpoint, partial(_response, run_id=str(run_id)))
        return await _read(endpoint, partial(_thread, thread_id=thread_id, run_id=run_id))


async def _read(endpoint: Endpoint, requests: Callable[[Wire], Awaitable[ThreadFacts]]) -> ThreadFacts:
    """Return the result of `requests` over a new connection; or `unreachable`, if one of them fails."""
    wire = Wire(endpoint, Limits(), silence_timeout_s=SILENCE_TIMEOUT_S)
    try:
        return await requests(wire)
    except ServiceFault as fault:
        return {"unreachable": str(fault)}
    finally:
        await wire.aclose()


async def _thread(wire: Wire, *, thread_id: str, run_id: str | None) -> ThreadFacts:
    """Return a thread's messages, and the run with its steps."""
    messages, _ = await wire.get(f"/threads/{thread_id}/messages", BETA, order="asc", limit=100)
    facts: ThreadFacts = {"messages": messages["data"]}
    if run_id is not None:
        facts["run"], _ = await wire.get(f"/threads/{thread_id}/runs/{run_id}", BETA)
        steps, _ = await wire.get(f"/threads/{thread_id}/runs/{run_id}/steps", BETA, order="asc", limit=100)
        facts["steps"] = steps["data"]
    return facts


async def _response(wire: Wire, *, run_id: str) -> ThreadFacts:
    """Return a response, and the items that it answers."""
    response, _ = await wire.get(f"/responses/{run_id}", {})
    items, _ = await wire.get(f"/responses/{run_id}/input_items", {}, order="asc", limit=100)
    return {"response": response, "input_items": items["data"]}
