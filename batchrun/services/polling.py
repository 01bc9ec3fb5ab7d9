"""Asking for an object by its id until it has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import anyio

from batchrun.errors import BatchRefused, PermanentFault, RunLost, TransientFault
from batchrun.services.reply_fields import members, required, unexpected
from batchrun.services.translation import bad_reply
from batchrun.services.wire import Wire

__all__ = ["NO_LOOKING_UP", "pages", "poll"]

FIRST_WAIT_S = 0.5
WAIT_S = 1.0
"""The API's own default where it sends no `openai-poll-after-ms`."""
MAX_WAIT_S = 60.0
MAX_LOST_POLLS = 5
MAX_FIRST_LOOKS = 3
"""At an object that was made a moment ago: a service may know it a moment later."""
NO_LOOKING_UP = frozenset({404, 405, 501})
"""HTTP statuses of a service that cannot look up what it has just made."""


async def poll(
    wire: Wire, path: str, headers: Mapping[str, str], ended: Callable[[Any], bool], *, just_made: bool = False
) -> Any:
    """GET `path` until `ended(object)`, waiting as long between two times as `openai-poll-after-ms` says.

    Asking costs nothing and does nothing, so a poll that fails is made again; five failing in a row are a fault.

    Args:
        just_made: this process has made the object, and has not looked at it yet.

    Raises:
        RunLost: 404.
        ServiceFault: any other refusal, or five faults in a row.
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
            # A 404 that is not the API's own (a proxy's page) says nothing about the run: that stops the batch.
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


async def pages(wire: Wire, path: str, headers: Mapping[str, str], **params: str) -> AsyncIterator[Mapping[str, Any]]:
    """The members of a list, oldest first, however many pages it has.

    Raises:
        ServiceFault: as any request; also where the list has no next page, or the same one again.
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
            raise unexpected(last, "the `last_id` of a further page", "another")
        after = {"after": last}


def _wait_s(headers: Mapping[str, str]) -> float:
    try:
        return min(MAX_WAIT_S, max(0.01, float(headers["openai-poll-after-ms"]) / 1_000))
    except (KeyError, ValueError):
        return WAIT_S
