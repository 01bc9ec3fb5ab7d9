"""Several combinations of settings, with one service each."""

from __future__ import annotations

import pytest

from batchrun.errors import PermanentFault, ServerFault
from batchrun.services.per_variant import Variants
from tests.support.rows import attempt, exchange
from tests.support.scripted_service import Move, ScriptedService

pytestmark = pytest.mark.anyio


def nothing_seen(thread_id: str | None, run_id: str | None, *, with_reply: bool = False) -> None:
    """Ignore the ids."""


async def test_each_exchange_goes_to_its_own() -> None:
    """An exchange is answered, followed and cancelled by the service of its variant alone."""
    services = [ScriptedService(otherwise=Move(after_s=0.0)) for _ in range(3)]
    variants = Variants(services)
    one = exchange(0, variant=1)
    await variants.answer(one, attempt(), nothing_seen)
    await variants.follow(one, attempt(), nothing_seen)
    await variants.cancel(one, attempt())
    assert [[asked.method for asked in service.asked] for service in services] == [
        [],
        ["answer", "follow", "cancel"],
        [],
    ]


async def test_all_are_prepared() -> None:
    """The services are prepared in order; after a fault, the rest is prepared at the next attempt."""
    services = [ScriptedService(), ScriptedService(prepare=[ServerFault("not now", error_type="x")]), ScriptedService()]
    variants = Variants(services)
    with pytest.raises(ServerFault):
        await variants.prepare()
    assert [service.prepared for service in services] == [1, 1, 0]
    await variants.prepare()
    assert [service.prepared for service in services] == [2, 2, 1]


async def test_faults_pass_through() -> None:
    """The fault of a variant's service is passed on unchanged."""
    service = ScriptedService(otherwise=Move(PermanentFault("no", error_type="x"), after_s=0.0))
    with pytest.raises(PermanentFault, match="no"):
        await Variants([service]).answer(exchange(), attempt(), nothing_seen)
