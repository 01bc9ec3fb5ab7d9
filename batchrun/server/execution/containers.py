"""What the hosted tools of a response may use: vector stores, and the files of the code interpreter's container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.server.execution.hosted_tools import DEFAULT_RESULTS, SearchOptions
from batchrun.server.protocol.ids import new_id
from batchrun.server.store.kinds import CONTAINER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchrun.server.execution.live_response import LiveResponse
    from batchrun.server.execution.parts import Parts
    from batchrun.server.protocol.bodies import Body
    from batchrun.server.store.hidden import UsableResources

__all__ = ["add_container", "keep_in_container", "search_options", "usable_in"]


def add_container(parts: Parts, owner: str, file_ids: Sequence[str]) -> str:
    """Store a new container with these files, and return its id."""
    container = {"id": new_id("cntr_"), "file_ids": list(file_ids)}
    parts.objects.add(CONTAINER, owner, container)
    return str(container["id"])


def keep_in_container(parts: Parts, live: LiveResponse, file_ids: Sequence[str]) -> None:
    """Add the files that code has written to the response's container."""
    live.hidden["file_ids"] = [*live.hidden.get("file_ids", ()), *file_ids]
    container = parts.objects.find(CONTAINER, live.owner, live.hidden.get("container", ""))
    if container is not None:
        container["file_ids"] = list(dict.fromkeys([*container["file_ids"], *file_ids]))
        with parts.database.transaction():
            parts.objects.save(container)


def _tool(body: Body, kind: str) -> Body:
    return next((tool for tool in body["tools"] if tool["type"] == kind), {})


def usable_in(live: LiveResponse) -> UsableResources:
    """Return the vector stores and files that a response may use, including the files that it has written."""
    stores = _tool(live.body, "file_search").get("vector_store_ids", ())
    return {"vector_store_ids": list(stores), "file_ids": list(live.hidden.get("file_ids", ()))}


def search_options(live: LiveResponse) -> SearchOptions:
    """Return how the response's file search wants its files searched."""
    tool = _tool(live.body, "file_search")
    ranking = tool.get("ranking_options") or {}
    return SearchOptions(
        tool.get("max_num_results") or DEFAULT_RESULTS, ranking.get("score_threshold") or 0.0, tool.get("filters")
    )
