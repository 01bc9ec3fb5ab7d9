"""The dates on which a service shuts models down, from its list of models.

OpenAI gives `shutdown_date` (YYYY-MM-DD, or null), see https://developers.openai.com/api/docs/deprecations; OpenRouter
gives `expiration_date` in the same form. Most other services give neither. The list is asked for once, beside the rows
and outside of their limits. Whatever happens to the request, the batch does not notice.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, date, datetime

import anyio

from batchrun.clock import WallClock
from batchrun.services.reply_fields import loaded, mapping, name, objects
from batchrun.services.wire import Wire
from batchrun.wording import shortened

__all__ = ["ShutdownLookup", "shutdown_dates", "shutdown_notice"]

logger = logging.getLogger("batchrun")

LOOKUP_TIMEOUT_S = 10.0
LEAST_TIME_S = 0.2
"""A batch that ends before the list arrives gives the request this time, counted from its start."""
MAX_LIST_BYTES = 8 * 1024 * 1024
SHUTDOWN_NOTICE_DAYS = 90
"""Three months: the shortest notice that OpenAI gives for a model that is not a preview."""

_DATE_FIELDS = ("shutdown_date", "expiration_date")
_MILLISECONDS_FROM = 100_000_000_000
"""A larger number of seconds would be after the year 5000."""


class ShutdownLookup:
    """Asks a service for its list of models, and reports those of the batch that it shuts down soon.

    Mutable state: from the start of the request `_ended`, an event, and `_began_s`, on the event loop's clock; before,
    `_ended` is None.
    """

    def __init__(self, wire: Wire, models: Collection[str], on_notice: Callable[[str], None], clock: WallClock) -> None:
        self._wire = wire
        self._models = models
        self._on_notice = on_notice
        self._clock = clock
        self._ended: anyio.Event | None = None
        self._began_s = 0.0

    async def run(self) -> None:
        """Ask once. Without an answer in time, or with one that is not understood, nothing is reported."""
        self._ended, self._began_s = anyio.Event(), anyio.current_time()
        try:
            with anyio.move_on_after(LOOKUP_TIMEOUT_S):
                content = await self._wire.get_beside("/models", MAX_LIST_BYTES)
                found = shutdown_dates(loaded(content), self._models)
                today = self._clock().astimezone(UTC).date()
                for model, day in sorted(found.items(), key=lambda item: (item[1], item[0])):
                    if (day - today).days <= SHUTDOWN_NOTICE_DAYS:
                        self._on_notice(shutdown_notice(model, day, today))
        except Exception as exc:  # noqa: BLE001 - the rows do not need the list, so no failure of it may reach them
            logger.debug("the shutdown dates of models are unknown (%s)", type(exc).__name__)
        finally:
            self._ended.set()

    async def wait(self) -> None:
        """Wait at the end of a batch for a request that has begun, until `LEAST_TIME_S` after its start."""
        if self._ended is not None:
            with anyio.move_on_after(self._began_s + LEAST_TIME_S - anyio.current_time()):
                await self._ended.wait()


def shutdown_dates(reply: object, models: Collection[str]) -> dict[str, date]:
    """Return model → the date on which it is shut down, for those of `models` that the list gives one for.

    >>> shutdown_dates({"data": [{"id": "m", "shutdown_date": "2026-12-11"}]}, {"m"})
    {'m': datetime.date(2026, 12, 11)}
    """
    return {model: day for model, day in _dated(reply) if model in models}


def _dated(reply: object) -> Iterator[tuple[str, date]]:
    for entry in objects(mapping(reply).get("data")):
        model = name(entry.get("id"))
        day = next((day for field in _DATE_FIELDS if (day := _day(entry.get(field))) is not None), None)
        if model is not None and day is not None:
            yield model, day


def _day(found: object) -> date | None:
    """Return the day (UTC) of an ISO date or time, or of seconds or milliseconds since 1970; None for anything else."""
    try:
        if isinstance(found, str):
            moment = datetime.fromisoformat(found.strip())
            return (moment if moment.tzinfo is None else moment.astimezone(UTC)).date()
        if isinstance(found, (int, float)) and not isinstance(found, bool) and math.isfinite(found) and found > 0:
            return datetime.fromtimestamp(found / 1_000 if found > _MILLISECONDS_FROM else found, UTC).date()
    except (ValueError, OverflowError, OSError):
        pass
    return None


def shutdown_notice(model: str, day: date, today: date) -> str:
    """Return one line about a model that is shut down soon, or was to be shut down.

    >>> shutdown_notice("m", date(2026, 12, 11), date(2026, 11, 29))
    "the service shuts down the model 'm' on 2026-12-11, in 12 days"
    """
    days = (day - today).days
    if days < 0:
        return f"the service gives {day} as the day on which it shuts down the model {shortened(model)}, which is past"
    when = "today" if days == 0 else "tomorrow" if days == 1 else f"in {days} days"
    return f"the service shuts down the model {shortened(model)} on {day}, {when}"
