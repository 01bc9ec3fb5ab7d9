"""The Batch API of a plan: its desk, the services that defer their requests to it, and the waves in which rows run."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import TypeAlias, cast

from batchrun.batch.assembly import engine_of, wire_of
from batchrun.batch.plan import Plan
from batchrun.batch.service_batch_tally import ServiceBatchTally, TallyFacts
from batchrun.batch.service_batch_text import NewsFacts, news_facts
from batchrun.batch.service_notices import ServiceNotices
from batchrun.batch.waves import Waves
from batchrun.clock import WallClock
from batchrun.engine import Engine, EngineStatistics, Limits
from batchrun.engine.pass_limits import PassLimits
from batchrun.engine.service import Service
from batchrun.errors import InputError
from batchrun.job.options import Job
from batchrun.journal import Journal, place_of
from batchrun.journal.open import read_earlier
from batchrun.journal.service_batches import ServiceBatch
from batchrun.records import Outcome
from batchrun.services.batch_api.deferred import DeferredService, LineService
from batchrun.services.batch_api.desk import Desk
from batchrun.services.batch_api.due import DueLines
from batchrun.services.batch_api.watching import BatchNews, Pace
from batchrun.services.client import Endpoint
from batchrun.services.wire import Wire
from batchrun.shell_hint import command

__all__ = [
    "BatchApi",
    "collecting_engine",
    "desk_of",
    "open_batch_api",
    "open_service_batches",
    "reading_results",
    "refuse_open_batches",
    "refuse_to_leave_batches",
]

log = logging.getLogger("batchrun.batch_api")

KEPT_NEWS = 1_000
"""News that are kept if no display takes them."""

Wrap: TypeAlias = Callable[[Service], Service]
"""Returns a service around one of a variant."""


@dataclass(slots=True)
class BatchApi:
    """The Batch API of a running batch.

    Mutable state: `open_batches`, `news` and `tally`, kept current by what the desk reports.

    Attributes:
        engine: runs the passes.
        waves: run the passes and what is between them.
        limits: of the requests of rows that are sent in the ordinary way, and of uploads.
        desk_limits: of the requests that submit, watch and collect.
        open_batches: the service batches whose results are still to come.
        news: what has happened to service batches, for a display that takes it from there.
        tally: the same in numbers.
        since: when this run began.
    """

    engine: Engine
    waves: Waves
    limits: Limits
    desk_limits: Limits
    since: datetime
    open_batches: Sequence[ServiceBatch] = ()
    news: deque[NewsFacts] = field(default_factory=partial(deque, maxlen=KEPT_NEWS))
    tally: ServiceBatchTally = field(default_factory=ServiceBatchTally)

    def facts(self, journal: Journal) -> TallyFacts:
        """Return what this run has done at the Batch API."""
        return self.tally.facts(journal.deferred_rows.asked_again(self.since))

    def statistics(self) -> EngineStatistics:
        """Return a snapshot, with all requests."""
        current = self.engine if self.waves.ordinary is None else self.waves.ordinary
        found = current.statistics()
        requests = self.limits.requests + self.desk_limits.requests
        stopping = self.engine.stop.reason if self.engine.stop is not None else None
        return replace(found, limits=replace(found.limits, requests=requests), stopping=stopping)


def refuse_open_batches(plan: Plan, journal: Journal) -> None:
    """Refuse to send rows in the ordinary way that are at the Batch API: both would be paid for.

    Raises:
        InputError: names what to do.
    """
    open_batches = [] if plan.job.batch_api else open_service_batches(journal)
    if open_batches:
        raise InputError(
            f"{_batches_are(len(open_batches))} at the service's Batch API: add --batch-api to collect the answers, or "
            f"cancel with {command('cancel', plan.paths.output)}"
        )


def refuse_to_leave_batches(plan: Plan) -> None:
    """Refuse a run that would pay for rows again whose answers are still to come: with --fresh, or at another service.

    Raises:
        InputError: names what to do.
    """
    job = plan.job
    if not (job.fresh or job.accept_changes):
        return
    batches = [
        each
        for each in read_earlier(plan.paths.journal, lambda journal: journal.service_batches.all()) or ()
        if each.is_open and (each.batch_id is not None or each.status == "creating")
    ]
    if batches and (job.fresh or any(each.place != place_of(plan.manifest()) for each in batches)):
        option = "--fresh" if job.fresh else "--accept-changes with another service"
        raise InputError(
            f"{option}: {_batches_are(len(batches))} at the service's Batch API, whose rows would be paid for twice: "
            f"cancel with {command('cancel', plan.paths.output)}, or name another output (--output)"
        )


def _batches_are(number: int) -> str:
    return "1 batch of this output is" if number == 1 else f"{number:,} batches of this output are"


def open_service_batches(journal: Journal) -> list[ServiceBatch]:
    """Return the batches at the batch's service whose results are still to come."""
    return journal.service_batches.open(place_of(journal.read_manifest()))


def desk_of(job: Job, journal: Journal, wire: Wire, clock: WallClock, report: Callable[[BatchNews], None]) -> Desk:
    """Return the desk of a journal's service batches.

    Args:
        wire: its limits hold for the requests of the desk only.
    """
    manifest = journal.read_manifest()
    return Desk(
        wire,
        journal.service_batches,
        journal_path=journal.path,
        journal_id=manifest["batch_id"],
        place=place_of(manifest),
        clock=clock,
        max_lines=job.batch_size,
        pace=Pace(first_s=min(1.0, job.batch_poll), max_poll_s=job.batch_poll),
        report=report,
    )


def open_batch_api(
    plan: Plan,
    journal: Journal,
    endpoint: Endpoint,
    wire: Wire,
    limits: Limits,
    stack: AsyncExitStack,
    clock: WallClock,
    on_outcome: Callable[[Outcome], None] | None,
    notices: ServiceNotices,
) -> BatchApi:
    """Return the Batch API of a batch; `stack` closes its connection.

    Args:
        wire, limits: of uploads, and of the rows that are sent in the ordinary way.

    Raises:
        InputError: a budget without a price.
    """
    desk_limits = Limits()
    desk_wire = wire_of(plan, endpoint, desk_limits)
    stack.push_async_callback(desk_wire.aclose)

    ended: set[str] = set()

    def note(outcome: Outcome) -> None:
        ended.add(outcome.row_key)
        if on_outcome is not None:
            on_outcome(outcome)

    take = on_outcome if plan.job.budget is None else note
    tally, since = ServiceBatchTally(), clock()

    def report(news: BatchNews) -> None:
        facts = news_facts(news)
        log.info("%s", facts["text"])
        opened.news.append(facts)
        tally.take(news)
        opened.open_batches = desk.open()

    desk = desk_of(plan.job, journal, desk_wire, clock, report)

    def engine(made: Limits, *, asks: bool, shares: Engine | None = None) -> Engine:
        wrap = _deferring(wire, journal, desk.due, asks=asks)
        return engine_of(plan, journal, wire, made, clock, take, notices, wrap=wrap, defers=asks, shares=shares)

    passes = engine(PassLimits(), asks=True)
    waves = Waves(plan, journal, passes, desk, clock, lambda: engine(limits, asks=False, shares=passes), ended, tally)
    opened = BatchApi(passes, waves, limits, desk_limits, since, desk.open(), tally=tally)
    return opened


def collecting_engine(
    plan: Plan, journal: Journal, endpoint: Endpoint, stack: AsyncExitStack, clock: WallClock
) -> Engine:
    """Return an engine that takes in replies and sends nothing: what a row needs next waits in the journal."""
    wire = wire_of(plan, endpoint, Limits())
    stack.push_async_callback(wire.aclose)
    wrap = _deferring(wire, journal, DueLines(), asks=True)
    return engine_of(plan, journal, wire, PassLimits(), clock, None, ServiceNotices(), wrap=wrap, defers=True)


def reading_results(wire: Wire, journal: Journal) -> Wrap | None:
    """Return what lets an ordinary run take the replies that the Batch API has given; None if there are none."""
    return _deferring(wire, journal, DueLines(), asks=False) if journal.deferred_rows.has_untaken() else None


def _deferring(wire: Wire, journal: Journal, due: DueLines, *, asks: bool) -> Wrap:
    place, lines = place_of(journal.read_manifest()), journal.service_batches

    def wrap(service: Service) -> Service:
        return DeferredService(cast(LineService, service), wire, lines, due, place=place, asks=asks)

    return wrap
