"""From a plan to the engine that runs it: services, limits, prices, budget, the manner of rows that go on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from batchrun.batch.plan import Plan
from batchrun.clock import WallClock, utc_now
from batchrun.engine import Budget, DialogueSettings, Engine, Limits, Price, RetryPolicy
from batchrun.engine.service import Service
from batchrun.errors import InputError
from batchrun.job.fingerprint import digest
from batchrun.job.options import Job
from batchrun.journal import Created, Journal, place_of
from batchrun.pricing import MatchedPrice, PriceList
from batchrun.records import Outcome, Usage
from batchrun.services.deletion import RowDeletion
from batchrun.services.factory import make_service
from batchrun.services.files.downloads import Downloads
from batchrun.services.files.row_files import RowFiles
from batchrun.services.files.uploads import Uploads
from batchrun.services.per_variant import Variants
from batchrun.services.redaction import scrubbed
from batchrun.services.tutor_refusal import Tutoring
from batchrun.services.wire import Wire
from batchrun.structured import SchemaMismatch

__all__ = ["engine_of", "price_list"]


def price_list(
    plan: Plan, clock: WallClock = utc_now, on_match: Callable[[MatchedPrice], None] | None = None
) -> PriceList:
    """The prices that hold for a plan.

    Raises:
        InputError: the job's own table is wrong.
    """
    return PriceList(
        plan.base_url,
        plan.job.prices,
        embedded=plan.embedded,
        service_tier=plan.job.param.get("service_tier"),
        clock=clock,
        on_match=on_match,
    )


def _keep_price(journal: Journal, match: MatchedPrice) -> None:
    """Names are matched to prices with some latitude: what a cost stands on is kept beside it."""
    kept = journal.read_manifest().get("prices", [])
    if match.facts() not in kept:
        journal.write_manifest({"prices": [*kept, match.facts()]})


def engine_of(
    plan: Plan,
    journal: Journal,
    wire: Wire,
    limits: Limits,
    clock: WallClock,
    on_outcome: Callable[[Outcome], None] | None,
) -> Engine:
    """The engine of a batch, with all that it drives.

    Raises:
        InputError: a budget without a price.
    """
    price = price_list(plan, clock, partial(_keep_price, journal))
    job = plan.job
    batch_id = journal.read_manifest()["batch_id"]
    return Engine(
        service=_service(plan, journal, wire, batch_id),
        journal=journal,
        limits=limits,
        policy=RetryPolicy(max_attempts=job.max_attempts),
        batch_id=batch_id,
        keep_going=job.keep_going,
        price=price,
        budget=_budget(plan, journal, price),
        clock=clock,
        on_outcome=on_outcome,
        forget=RowDeletion(wire, journal, clock) if job.delete_threads else None,
        dialogue_settings=_manner(plan),
        scrub=lambda text: scrubbed(text, wire.secrets, most_chars=None),
    )


def _service(plan: Plan, journal: Journal, wire: Wire, batch_id: str) -> Service:
    """The service of the batch, or one for each combination of settings."""
    row_files = _row_files(plan, journal, wire, batch_id)
    services = [_variant(variant, plan, journal, wire, batch_id, row_files) for variant in plan.variants]
    service = services[0] if len(services) == 1 else Variants(services)
    return Tutoring(service) if plan.tutored else service


def _variant(job: Job, plan: Plan, journal: Journal, wire: Wire, batch_id: str, row_files: RowFiles | None) -> Service:
    manifest = journal.read_manifest()
    # With other instructions or another model (--accept-changes) the earlier assistant would give old answers.
    assistant_for = digest(job.model, job.instructions)

    def assistant_made(made: str) -> None:
        journal.created.add(Created("assistant", made, None), place_of(manifest))
        assistants = journal.read_manifest().get("assistants", {})
        journal.write_manifest({"assistants": {**assistants, assistant_for: made}})

    return make_service(
        job,
        plan.api,
        wire,
        batch_id=batch_id,
        assistant_id=manifest.get("assistants", {}).get(assistant_for),
        assistant_made=assistant_made,
        structure=plan.structure.response_format() if plan.structure is not None else None,
        row_files=row_files,
    )


def _row_files(plan: Plan, journal: Journal, wire: Wire, batch_id: str) -> RowFiles | None:
    """The files of the batch, None where it has none."""
    job = plan.job
    if not (job.attach or job.code_interpreter or plan.searched or "attach" in job.matrix):
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


def _manner(plan: Plan) -> DialogueSettings:
    """How rows that are more than one question go on."""
    structure = plan.structure

    def check(answer: str) -> str | None:
        assert structure is not None
        try:
            structure.read(answer)
        except SchemaMismatch as exc:
            return str(exc)
        return None

    return DialogueSettings(
        recorded=plan.several_runs,
        call_tools=plan.toolbox.call if plan.toolbox is not None else None,
        max_tool_rounds=plan.job.max_tool_rounds,
        check=check if structure is not None else None,
        max_corrections=plan.job.schema_retries,
    )


def _budget(plan: Plan, journal: Journal, price: Price) -> Budget | None:
    """The budget, if there is one: reckoned with the dearest of the batch's models, and for all turns of a row.

    Raises:
        InputError: there is no price to reckon with.
    """
    job = plan.job
    if job.budget is None:
        return None
    models = {variant.model for variant in plan.variants}
    costs = {model: price(model, Usage(1_000, 1_000, 2_000)) for model in models}
    unknown = [model for model, cost in costs.items() if cost is None]
    if unknown:
        raise InputError(
            f"--budget: the price of {unknown[0] or 'the assistant'} is not known; "
            "give it in the job file, such as prices.NAME = {input = 0.5, output = 2.0}"
        )
    dearest = max(models, key=lambda model: costs[model] or 0.0)
    turns = len(job.turns or (1,))
    return Budget(
        job.budget,
        journal.spent_usd(),
        lambda usage: price(dearest, usage),
        fixed_chars=max(len(variant.instructions or "") for variant in plan.variants),
        max_completion_tokens=job.max_completion_tokens * turns if job.max_completion_tokens is not None else None,
    )
