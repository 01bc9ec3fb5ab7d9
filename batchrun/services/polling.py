"""Polls an object by its id until it has ended, and reads lists page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping

import anyio

from batchrun.errors import BatchRefused, PermanentFault, RunLost, TransientFault
from batchrun.records import JsonObject
from batchrun.services.reply_fields import members, name, objects, required, unexpected
from batchrun.services.translation import bad_reply
from batchrun.services.wire import Wire

__all__ = ["NO_LOOKING_UP", "ended_by", "listed", "pages", "poll"]

FIRST_WAIT_S = 0.5
WAIT_S = 1.0
"""The API's own default if it sends no `openai-poll-after-ms`."""
MAX_WAIT_S = 60.0
MAX_LOST_POLLS = 5
MAX_FIRST_LOOKS = 3
"""Polls of an object that has just been created: a service may not know it at first."""
NO_LOOKING_UP = frozenset({404, 405, 501})
"""HTTP statuses of a service that cannot look up an object that it has just created."""
_ENDS = frozenset({"completed", "failed", "incomplete", "cancelled", "expired"})
"""The last parts of the names of events with which the stream of a run or of a response ends."""


async def poll(
    wire: Wire, path: str, headers: Mapping[str, str], ended: Callable[[JsonObject], bool], *, just_made: bool = False
) -> JsonObject:
    """GET `path` until `ended(object)`; return the object. `openai-poll-after-ms` sets the time between two polls.

    A poll is free and has no effect, so a failed poll is repeated; five failures in a row are a fault.

    Args:
        just_made: this process created the object and has not polled it yet.

    Raises:
        RunLost: the service answers 404: it does not know the object.
        ServiceFault: the service refused in another way, or five polls in a row failed.
    """
    wait_s, lost, looks = FIRST_WAIT_S, 0, 0
    while True:
        try:
            found, reply_headers = await wire.get(path, headers)
        except PermanentFault as fault:
            looks += 1
            if just_made and fault.status_code == 404 and looks < MAX_FIRST_LOOKS:
                await anyio.sleep(wait_s * looks)
                continue
            # A 404 that does not come from the API (but from a proxy, say) is not about the run: it stops the batch.
            if fault.status_code == 404 and not isinstance(fault, BatchRefused):
                raise RunLost(str(fault), error_type="run_lost", status_code=404, run_ended=True) from fault
            raise
        except TransientFault as fault:
            lost += 1
            if lost >= MAX_LOST_POLLS or (just_made and fault.status_code in NO_LOOKING_UP):
                raise
            await anyio.sleep(min(MAX_WAIT_S, max(fault.retry_after_s or 0.0, wait_s * 2**lost)))
            continue
        lost, just_made = 0, False
        if ended(found):
            return found
        await anyio.sleep(wait_s)
        wait_s = _wait_s(reply_headers)


def ended_by(event: str, found: JsonObject, status: str) -> JsonObject:
    """Return an object as the last event of its stream shows it.

    A server may call every object completed, or send the status that the object had before: then the event decides.

    Args:
        event: such as `response.failed`.
        found: the object in the event.
        status: of the object.
    """
    ended_as = event.rpartition(".")[2]
    is_vague = status in ("completed", "queued", "in_progress", "cancelling")
    return {**found, "status": ended_as} if ended_as in _ENDS and is_vague else found


async def pages(wire: Wire, path: str, headers: Mapping[str, str], **params: str) -> AsyncIterator[JsonObject]:
    """Yield the members of a list from all its pages, oldest first.

    Raises:
        ServiceFault: a request failed, or a page that must have a successor names none, or names itself.
    """
    after: dict[str, str] = {}
    while True:
        page, _ = await wire.get(path, headers, order="asc", limit=100, **params, **after)
        if page.get("data") is None:
            raise bad_reply("'data'", page, "OpenAI", wire.secrets)
        for each in members(page["data"], "`data` of a list"):
            yield each
        if page.get("has_more") is not True:
            return
        last = required(page.get("last_id"), "the `last_id` of a list that has more")
        if after.get("after") == last:
            raise unexpected(last, "the `last_id` of a further page", "another id")
        after = {"after": last}


async def listed(wire: Wire, path: str, **params: str) -> AsyncIterator[JsonObject]:
    """Yield the members of a list in the service's own order, to its end.

    Unlike `pages`, it takes lists without `last_id` (the last member's id replaces it) and members that are not
    objects, which are left out.

    Raises:
        ServiceFault: a request failed, or the reply is not a list.
    """
    after: str | None = None
    seen = set()
    while True:
        page, _ = await wire.get(path, {}, limit=100, **params, **({} if after is None else {"after": after}))
        if not isinstance(page.get("data"), list):
            raise bad_reply("'data'", page, "OpenAI", wire.secrets)
        some = objects(page["data"])
        for each in some:
            yield each
        after = name(page.get("last_id")) or (name(some[-1].get("id")) if some else None)
        if page.get("has_more") is not True or after is None or after in seen:
            return
        seen.add(after)


def _wait_s(headers: Mapping[str, str]) -> float:
    try:
        return min(MAX_WAIT_S, max(0.01, float(headers["openai-poll-after-ms"]) / 1_000))
    except (KeyError, ValueError):
        return WAIT_S
