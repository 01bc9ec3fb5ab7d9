"""The engine of a plan, put together: limits, connection, service, prices, budget and settings for several runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from urllib.parse import urlsplit

from batchrun.batch.plan import Plan
from batchrun.batch.service_notices import ServiceNotices
from batchrun.clock import WallClock, utc_now
from batchrun.engine import Answers, Budget, DialogueSettings, Engine, FixedPurse, Limits, Price, Purse, RetryPolicy
from batchrun.engine.limits import CoolDown
from batchrun.engine.pacer import Pacers
from batchrun.engine.rate import RatesPerMinute
from batchrun.engine.service import Service
from batchrun.engine.slots import START, START_ON_THIS_MACHINE
from batchrun.errors import InputError
from batchrun.job.fingerprint import digest
from batchrun.job.options import Job
from batchrun.job.templated import is_template, without_templates
from batchrun.journal import Created, Journal, place_of
from batchrun.pricing import MatchedPrice, PriceList, no_price_text
from batchrun.records import Outcome
from batchrun.services.client import Endpoint
from batchrun.services.deletion import RowDeletion
from batchrun.services.factory import make_service
from batchrun.services.files.downloads import Downloads
from batchrun.services.files.row_files import RowFiles
from batchrun.services.files.uploads import Uploads
from batchrun.services.kept import logprobs_look
from batchrun.services.parameters import model_parameters
from batchrun.services.per_variant import Variants
from batchrun.services.redaction import scrubbed
from batchrun.services.token_limit import token_limit_look
from batchrun.services.tutor_refusal import Tutoring
from batchrun.services.watched import Look, WatchedService
from batchrun.services.wire import Wire
from batchrun.structured import SchemaMismatch
from batchrun.token_usage import Usage

__all__ = ["budget_of", "engine_of", "limits_of", "price_list", "wire_of"]


def price_list(
    plan: Plan, clock: WallClock = utc_now, on_match: Callable[[MatchedPrice], None] | None = None
) -> PriceList:
    """Return the prices that apply to a plan.

    Raises:
        InputError: the job's own price table is invalid.
    """
    return PriceList(
        plan.destination.base_url,
        plan.job.prices,
        embedded=plan.destination.is_embedded,
        service_tier=plan.job.param.get("service_tier"),
        batch_api=plan.job.batch_api,
        clock=clock,
        on_match=on_match,
    )


def limits_of(
    plan: Plan, on_cool_down: CoolDown, max_connections: int | None, rates: RatesPerMinute | None = None
) -> Limits:
    """Return the limits of a batch: those of the job, and those of this machine.

    Args:
        on_cool_down: as of `Limits`.
        max_connections: connections that this process can open, None if the system sets no limit.
        rates: None for those of the job.
    """
    job = plan.job
    return Limits(
        concurrency=job.concurrency,
        rates=rates or Pacers(requests_per_minute=job.rpm, tokens_per_minute=job.tpm),
        max_completion_tokens=job.max_completion_tokens,
        row_timeout_s=job.row_timeout_s,
        start=_first_slots(plan),
        max_slots=max_connections,
        max_outage_s=job.max_outage,
        fixed_chars=_instructions_chars(plan),
        on_cool_down=on_cool_down,
    )


def _instructions_chars(plan: Plan) -> int:
    """Return the characters of the batch's instructions. Those of single rows are characters of these rows."""
    return max(len(without_templates(variant).instructions or "") for variant in plan.variants)


def _first_slots(plan: Plan) -> int:
    """Return the rows in flight at the start if concurrency is adaptive.

    A model server on this machine may have a single slot: each further row would wait in its queue and time out there.
    """
    base_url = plan.destination.base_url
    if plan.destination.is_embedded or plan.destination.api != "chat" or base_url is None:
        return START
    host = urlsplit(base_url).hostname or ""
    try:
        is_local = ip_address(host).is_loopback
    except ValueError:
        is_local = host == "localhost" or host.endswith(".localhost")
    return START_ON_THIS_MACHINE if is_local else START


def wire_of(plan: Plan, endpoint: Endpoint, limits: Limits) -> Wire:
    """Return the connection to the service. The caller closes it."""
    api = plan.destination.api
    return Wire(
        endpoint,
        limits,
        silence_timeout_s=plan.job.silence_timeout,
        settings={
            name
            for variant in map(without_templates, plan.variants)
            for name in (*model_parameters(variant, api), *variant.param)
        },
    )


def engine_of(
    plan: Plan,
    journal: Journal,
    wire: Wire,
    limits: Limits,
    clock: WallClock,
    on_outcome: Callable[[Outcome], None] | None,
    notices: ServiceNotices,
    *,
    wrap: Callable[[Service], Service] | None = None,
    defers: bool = False,
    shares: Engine | None = None,
    budget: Budget | None = None,
    answers: Answers | None = None,
) -> Engine:
    """Return the engine of a batch with its service, prices and budget.

    Args:
        notices: gets what replies tell about the service.
        wrap: returns a service around one of a variant; None to use that itself.
        defers, shares: see `Engine`.
        budget, answers: what several engines share; None for one of its own.

    Raises:
        InputError: a budget without a price.
    """
    price = price_list(plan, clock, partial(_record_price, journal))
    job = plan.job
    batch_id = journal.read_manifest()["batch_id"]
    in_flight_usd: dict[str, float] = {}
    if job.budget is not None and shares is None:
        in_flight_usd = journal.spending.in_flight_usd()
        if budget is None:
            unknown_usd = journal.spending.unseen_usd() + sum(in_flight_usd.values())
            budget = budget_of(plan, price, spent_usd=journal.spent_usd(), unknown_usd=unknown_usd)
    return Engine(
        service=_service(plan, journal, wire, batch_id, notices, wrap),
        journal=journal,
        limits=limits,
        policy=RetryPolicy(max_attempts=job.max_attempts),
        batch_id=batch_id,
        keep_going=job.keep_going,
        price=price,
        budget=budget,
        in_flight_usd=in_flight_usd,
        clock=clock,
        on_outcome=on_outcome,
        forget=RowDeletion(wire, journal, clock) if job.delete_threads else None,
        dialogue_settings=_dialogue_settings(plan),
        scrub=lambda text: scrubbed(text, wire.secrets, most_chars=None),
        defers=defers,
        waits_for_files=_has_files(plan),
        shares=shares,
        answers=answers,
    )


def _record_price(journal: Journal, match: MatchedPrice) -> None:
    """Record the price in the journal: model names are matched with some tolerance, so a cost must be traceable."""
    recorded = journal.read_manifest().get("prices", [])
    if match.facts() not in recorded:
        journal.write_manifest({"prices": [*recorded, match.facts()]})


def _service(
    plan: Plan,
    journal: Journal,
    wire: Wire,
    batch_id: str,
    notices: ServiceNotices,
    wrap: Callable[[Service], Service] | None,
) -> Service:
    """Return the service of the batch; with several combinations of settings, one that chooses among theirs."""
    files = _row_files(plan, journal, wire, batch_id)
    services: list[Service] = []
    for job in plan.variants:
        service = _service_of_variant(job, plan, journal, wire, batch_id, files, notices)
        if wrap is not None:
            service = wrap(service)
        looks = _looks(job, plan, notices)
        services.append(WatchedService(service, looks) if looks else service)
    service = services[0] if len(services) == 1 else Variants(services)
    return Tutoring(service) if plan.is_tutored else service


def _looks(job: Job, plan: Plan, notices: ServiceNotices) -> list[Look]:
    """Return what is looked for in all replies: nothing for most jobs."""
    looks = []
    if job.max_completion_tokens is not None:
        looks.append(token_limit_look(job, plan.destination.api, partial(notices.add_once, "token limit")))
    if "logprobs" in (job.keep or ()):
        looks.append(logprobs_look(partial(notices.add_once, "logprobs")))
    return looks


def _service_of_variant(
    job: Job,
    plan: Plan,
    journal: Journal,
    wire: Wire,
    batch_id: str,
    files: RowFiles | None,
    notices: ServiceNotices,
) -> Service:
    manifest = journal.read_manifest()
    # An assistant is found again by its model and instructions. With other ones (--accept-changes) an assistant of an
    # earlier run would still answer by the old ones.
    assistant_for = digest(job.model, job.instructions)

    def record_assistant(assistant_id: str) -> None:
        journal.created.add(Created("assistant", assistant_id, None), place_of(manifest))
        assistants = journal.read_manifest().get("assistants", {})
        journal.write_manifest({"assistants": {**assistants, assistant_for: assistant_id}})

    shared = without_templates(job)
    if is_template(job.model) and plan.destination.api == "assistants":
        shared = replace(
            shared, model=next(iter(plan.models), None)
        )  # an assistant has to have one; each run names its own
    return make_service(
        shared,
        plan.destination.api,
        wire,
        batch_id=batch_id,
        assistant_id=manifest.get("assistants", {}).get(assistant_for),
        assistant_made=record_assistant,
        structure=plan.structure.response_format() if plan.structure is not None else None,
        row_files=files,
        on_unknown_end=partial(notices.add_once, "finish reason"),
    )


def _has_files(plan: Plan) -> bool:
    job = plan.job
    return bool(job.attach or job.code_interpreter or plan.searched or "attach" in job.matrix)


def _row_files(plan: Plan, journal: Journal, wire: Wire, batch_id: str) -> RowFiles | None:
    """Return the files that rows send and receive; None if the job has no option for files."""
    job = plan.job
    if not _has_files(plan):
        return None
    place = place_of(journal.read_manifest())
    return RowFiles(
        Uploads(wire, journal, place, plan.folder),
        Downloads(wire, journal, place, plan.paths.files),
        folder=plan.folder,
        searched=plan.searched,
        code_interpreter=job.code_interpreter,
        batch_id=batch_id,
    )


def _dialogue_settings(plan: Plan) -> DialogueSettings:
    """Return the settings for rows that need more than one run."""
    structure = plan.structure

    def check(answer: str) -> str | None:
        assert structure is not None
        try:
            structure.read(answer)
        except SchemaMismatch as exc:
            return str(exc)
        return None

    return DialogueSettings(
        recorded=plan.has_several_runs,
        call_tools=plan.toolbox.call if plan.toolbox is not None else None,
        max_tool_rounds=plan.job.max_tool_rounds,
        check=check if structure is not None else None,
        max_corrections=plan.job.schema_retries,
        fallback_model=plan.job.fallback_model,
    )


def budget_of(
    plan: Plan, price: Price, *, spent_usd: float = 0.0, unknown_usd: float = 0.0, purse: Purse | None = None
) -> Budget | None:
    """Return the budget; None without --budget.

    A row's cost is not known before it ends. The budget assumes the most expensive model of the batch and all turns of
    a row, and the fallback model as well, so that it stops too early rather than too late.

    Args:
        spent_usd: cost of earlier runs, if the purse has to pay for it.
        unknown_usd: what their requests may have cost besides.
        purse: None for the money of --budget.

    Raises:
        InputError: the price of a model is unknown.
    """
    job = plan.job
    if job.budget is None or not plan.models:
        return None
    fallback = job.fallback_model
    models = plan.models if fallback is None else (*plan.models, fallback)
    if job.batch_deadline is not None:
        price = price_list(replace(plan, job=replace(job, batch_api=False)))  # the price of a late row
    unknown = [model for model in models if price(model, Usage(1_000, 1_000, 2_000)) is None]
    if plan.is_tutored and len(unknown) == len(models):
        return None  # its answers are free: no budget can be exceeded
    if unknown:
        raise InputError(f"--budget: {no_price_text(unknown[0], plan.place)}")

    def row_price(usage: Usage) -> float:
        """Return the price of a row by the model that is the most expensive for this usage, and that of the fallback
        model: a part of the rows is asked of both, but nobody knows which."""
        first = max(price(model, usage) or 0.0 for model in plan.models)
        return first if fallback is None else first + (price(fallback, usage) or 0.0)

    turns = len(job.turns or (1,))
    return Budget(
        purse or FixedPurse(job.budget),
        spent_usd,
        row_price,
        unknown_usd=unknown_usd,
        fixed_chars=_instructions_chars(plan),
        max_completion_tokens=job.max_completion_tokens * turns if job.max_completion_tokens is not None else None,
    )
