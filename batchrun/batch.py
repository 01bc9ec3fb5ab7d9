"""The composition root: opens everything that a batch needs, runs the stages, closes everything."""

from __future__ import annotations

import gc
import os
import secrets
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import anyio.to_thread
from filelock import FileLock, Timeout

from batchrun.clock import WallClock, utc_now
from batchrun.engine import Ask, Budget, Engine, EngineStatistics, Limits, Manner, Price, RetryPolicy, Stop, Work
from batchrun.errors import InputError, OutputError, OutputHeld, unwrapped
from batchrun.job import Environment, Job, digest, seconds_of
from batchrun.journal import Created, Journal, RowHistory, open_journal, place_of
from batchrun.plan import Paths, Plan
from batchrun.pricing import MatchedPrice, PriceList
from batchrun.prompts import PromptError
from batchrun.records import Failed, Outcome, Prompt, Usage
from batchrun.results import UNASKED, Totals, counted, prompts_of, result_cells
from batchrun.services.base import Service
from batchrun.services.choice import make_service, model_parameters
from batchrun.services.client import Endpoint
from batchrun.services.deletion import RowDeletion
from batchrun.services.downloads import Downloads
from batchrun.services.enclosures import Enclosures
from batchrun.services.uploads import Uploads
from batchrun.services.variants import Variants
from batchrun.services.wire import Wire
from batchrun.structure import SchemaMismatch
from batchrun.tables import remove_stale, write_table

__all__ = [
    "BatchView",
    "Summary",
    "Watch",
    "continued",
    "endpoint_of",
    "held",
    "hold",
    "keep_checkpoints",
    "oldest_that_holds",
    "open_embedded",
    "price_list",
    "rejoined",
    "run_batch",
]

CHECKPOINT_EVERY_S = 2.0
PROBE_PATIENCE_S = 0.25
LOOK_AGAIN_S = 1.0
"""Between two looks at a lock that another process holds: the system tells nobody when it is free."""


@dataclass(frozen=True, slots=True)
class BatchView:
    """A look at a batch that runs, for displays.

    Attributes:
        rows: input rows in all.
        statistics: takes a snapshot.
        embedded: the batch brings its own server, which costs nothing.
    """

    rows: int
    output: Path
    statistics: Callable[[], EngineStatistics]
    embedded: bool


Watch: TypeAlias = Callable[[BatchView], Coroutine[Any, Any, None]]
"""A task that runs beside the batch (a progress display); cancelled at its end."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How a batch ended.

    Attributes:
        output: None where no output was written, since nothing is known about any row.
        rows: input rows in all.
        totals: over all rows of the input, what earlier runs found out included.
        statistics: of this run.
        elapsed_s: seconds that this run took.
        stop: why it ended before the last row, None if it did not.
        embedded: the batch brought its own server, which costs nothing.
    """

    output: Path | None
    rows: int
    totals: Totals
    statistics: EngineStatistics
    elapsed_s: float
    stop: Stop | None
    embedded: bool

    @property
    def exit_code(self) -> int:
        """0 if every row completed; what the stop says; else 3."""
        if self.stop is not None:
            return self.stop.exit_code
        return 0 if self.totals.by_status["completed"] == self.rows else 3


async def run_batch(
    plan: Plan,
    environment: Environment,
    *,
    watch: Watch | None = None,
    leave: Callable[[int], None] | None = None,
    clock: WallClock = utc_now,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> Summary:
    """Run a plan to its end, or to a stop, and write the output.

    Args:
        leave: given, SIGINT, SIGTERM and SIGHUP are handled (main thread only): the first stops the admission of rows,
            the second calls `leave(exit_code)`, which must not return.

    Raises:
        OutputHeld: another process works on this output.
        JournalMismatch: the journal belongs to another job.
        OutputError: journal or output cannot be written.
        InputError: a budget without a price, or a wrong table of prices.
    """
    started_s = time.monotonic()
    price_list(plan)  # a wrong table of prices is refused before anything is made
    async with AsyncExitStack() as stack:
        await hold(plan.paths.lock, stack, wait=plan.job.wait)
        stack.callback(plan.paths.incoming.unlink, missing_ok=True)
        journal = stack.enter_context(
            open_journal(
                plan.paths.journal,
                plan.manifest(),
                output=plan.paths.output if plan.write_output else None,
                fresh=plan.job.fresh,
                accept_changes=plan.job.accept_changes,
                clock=clock,
            )
        )
        # For those who look at the batch: it does not decide answers.
        journal.write_manifest({"limits": {"rpm": plan.job.rpm, "tpm": plan.job.tpm}})
        if plan.input_name == "-":
            _keep_input(plan.paths)
        limits = Limits(
            concurrency=plan.job.concurrency,
            max_requests_per_minute=plan.job.rpm,
            max_tokens_per_minute=plan.job.tpm,
            max_completion_tokens=plan.job.max_completion_tokens,
            row_timeout_s=plan.job.row_timeout,
            on_cool_down=lambda wait_s, reason: journal.cooled_down(clock(), wait_s, reason),
        )
        wire = Wire(
            _endpoint(plan, environment, stack),
            limits,
            silence_timeout_s=plan.job.silence_timeout,
            settings={name for variant in plan.variants for name in model_parameters(variant, plan.api)},
        )
        stack.push_async_callback(wire.aclose)
        engine = _engine(plan, journal, wire, limits, clock, on_outcome)
        with unwrapped(), _calm_collector():
            async with anyio.create_task_group() as beside:
                if leave is not None:
                    beside.start_soon(_obey_signals, engine, plan.job.grace, leave)
                if watch is not None:
                    beside.start_soon(watch, BatchView(plan.rows, plan.paths.output, engine.statistics, plan.embedded))
                beside.start_soon(keep_checkpoints, journal)
                await engine.run(_work(plan, journal, clock))
                beside.cancel_scope.cancel()
        if plan.job.dedupe:
            journal.duplicates.share()
        output, totals = _write(plan, journal)
        return Summary(
            output=output,
            rows=plan.rows,
            totals=totals,
            statistics=engine.statistics(),
            elapsed_s=time.monotonic() - started_s,
            stop=engine.stop,
            embedded=plan.embedded,
        )


def _keep_input(paths: Paths) -> None:
    """The batch is accepted: what came through standard input takes the place of an earlier copy. The source goes on
    reading it under the name that it was opened by."""
    beside = paths.incoming.with_name(paths.incoming.name + ".link")
    try:
        beside.unlink(missing_ok=True)
        os.link(paths.incoming, beside)
        beside.replace(paths.spool)
    except OSError as exc:
        raise OutputError(f"{paths.spool}: cannot be written ({(exc.strerror or str(exc)).lower()})") from None


@contextmanager
def _calm_collector() -> Iterator[None]:
    """The garbage collector looks less often, and not at what is there already: most of a row is freed without it, and
    looking through the imported libraries again and again takes as long as the journal."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


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


def _write(plan: Plan, journal: Journal) -> tuple[Path | None, Totals]:
    """Stage 7. An output that would hold nothing but pending rows is not written over an earlier one."""
    totals = Totals()
    cells = counted(result_cells(plan.source, plan.prompter, journal, plan.added), totals)
    if plan.write_output and not journal.is_empty():
        # Whoever has the output must find its answers in the journal, also after a power cut.
        journal.settle()
        remove_stale(plan.paths.output)
        write_table(plan.paths.output, plan.source, cells, plan.write_options)
        return plan.paths.output, totals
    for _ in cells:
        pass
    return None, totals


def _engine(
    plan: Plan,
    journal: Journal,
    wire: Wire,
    limits: Limits,
    clock: WallClock,
    on_outcome: Callable[[Outcome], None] | None,
) -> Engine:
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
        manner=_manner(plan),
    )


def _service(plan: Plan, journal: Journal, wire: Wire, batch_id: str) -> Service:
    """The service of the batch, or one for each combination of settings."""
    enclosures = _enclosures(plan, journal, wire, batch_id)
    services = [_variant(variant, plan, journal, wire, batch_id, enclosures) for variant in plan.variants]
    return services[0] if len(services) == 1 else Variants(services)


def _variant(
    job: Job, plan: Plan, journal: Journal, wire: Wire, batch_id: str, enclosures: Enclosures | None
) -> Service:
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
        enclosures=enclosures,
    )


def _enclosures(plan: Plan, journal: Journal, wire: Wire, batch_id: str) -> Enclosures | None:
    """The files of the batch, None where it has none."""
    job = plan.job
    if not (job.attach or job.code_interpreter or plan.searched or "attach" in job.matrix):
        return None
    place = place_of(journal.read_manifest())
    return Enclosures(
        Uploads(wire, journal, place, plan.folder),
        Downloads(wire, journal, place, plan.paths.files),
        folder=plan.folder,
        searched=plan.searched,
        code_interpreter=job.code_interpreter,
        batch_id=batch_id,
    )


def _manner(plan: Plan) -> Manner:
    """How rows that are more than one question go on."""
    structure = plan.structure

    def check(answer: str) -> str | None:
        assert structure is not None
        try:
            structure.read(answer)
        except SchemaMismatch as exc:
            return str(exc)
        return None

    return Manner(
        recorded=len(plan.job.turns or ()) > 1 or plan.toolbox is not None or structure is not None,
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


def _endpoint(plan: Plan, environment: Environment, stack: AsyncExitStack) -> Endpoint:
    """Where the service is; starts the embedded server where the batch brings its own."""
    if plan.embedded:
        return stack.enter_context(open_embedded(plan.paths.store, plan.job.script))
    return endpoint_of(plan.job, plan.base_url, environment)


def endpoint_of(job: Job, base_url: str | None, environment: Environment) -> Endpoint:
    """The service at `base_url`, as the job and the environment sign in to it."""
    return Endpoint(
        base_url=base_url,
        api_key=environment.azure_key if job.azure else environment.api_key,
        organization=job.organization or environment.organization,
        project=job.project or environment.project,
        azure=job.azure,
        api_version=job.api_version or environment.api_version,
        headers=job.header,
        query=job.query,
        client_options=environment.client_options,
    )


@contextmanager
def open_embedded(store: Path, script: Path | None = None) -> Iterator[Endpoint]:
    """The embedded server over `store`, for as long as the context lasts.

    Args:
        script: what it answers from; None for the tutor.

    Raises:
        OutputError: it cannot start.
        InputError: the script cannot be used.
    """
    # The only place where a stage meets the server; imported late, since FastAPI takes half a second.
    from batchrun.server import EmbeddedServer, ServerError, ServerSettings, SettingsError
    from batchrun.server.responders.script import ScriptResponder
    from batchrun.server.responders.tutor import TutorResponder

    key = f"sk-local-{secrets.token_urlsafe(24)}"
    settings = ServerSettings(data=store, api_keys=(key,), owner="batchrun")
    with ExitStack() as stack:
        try:
            responder = TutorResponder() if script is None else ScriptResponder(script)
            server = stack.enter_context(EmbeddedServer(settings, responder))
        except SettingsError as exc:
            raise InputError(f"--script: {exc}") from None
        except (ServerError, OSError) as exc:
            raise OutputError(f"the embedded server cannot start: {exc}") from exc
        yield Endpoint(server.url, key)


def _work(plan: Plan, journal: Journal, clock: WallClock) -> Iterator[Work]:
    """Stages 1 to 3: each row becomes something to ask, something that failed, or nothing to do."""
    job = plan.job
    stale_before = oldest_that_holds(job, clock)
    recorded = _manner(plan).recorded
    if job.dedupe:
        journal.duplicates.begin(stale_before)
    for row_key, _, prompt in prompts_of(plan.source, plan.prompter):
        history = journal.history(row_key)
        if isinstance(prompt, PromptError):
            if history is not None and history.status == "failed" and history.fingerprint == UNASKED:
                yield "finished before"
            else:
                yield Failed(row_key, prompt.error_type, str(prompt), 0, 0.0, clock())
        elif job.dedupe and prompt.thread_id is None and not journal.duplicates.is_first(row_key, prompt.fingerprint):
            yield "asked alike"
        elif history is None:
            yield Ask(prompt)
        else:
            ask = continued(prompt, history, retry_failed=job.retry_failed, stale_before=stale_before)
            if ask is None:
                yield "finished before"
            else:
                stale = stale_before is not None
                yield rejoined(ask, history, journal, stale=stale) if recorded else ask


def rejoined(ask: Ask, history: RowHistory, journal: Journal, *, stale: bool) -> Ask:
    """With the runs that ended already, but for those of turns that are to be asked again.

    Args:
        stale: answers can be too old.
    """
    row_key, fingerprint = ask.prompt.row_key, ask.prompt.fingerprint
    ours = history.fingerprint == fingerprint
    anew = None
    if ours and not history.trying:
        if history.answered:
            anew = 1
        elif history.last is not None and history.last.run_ended:
            anew = journal.last_turn(row_key)  # else nothing says that the same request would fail again
    elif stale and not ours and history.last_fingerprint != fingerprint:
        anew = 1  # the row asked this before it asked something else: nobody knows when
    ends = journal.exchanges.of_row(row_key, fingerprint)
    return replace(
        ask,
        ends=ends if anew is None else [end for end in ends if end.turn < anew],
        outputs=journal.exchanges.outputs_of_row(row_key, fingerprint, anew),
        anew=anew,
        billed=history.attempts if ours else 0,
    )


def oldest_that_holds(job: Job, clock: WallClock) -> datetime | None:
    """The moment before which answers are too old, None where none is."""
    return None if job.max_age is None else clock() - timedelta(seconds=seconds_of(job.max_age, "max-age"))


def continued(prompt: Prompt, history: RowHistory, *, retry_failed: bool, stale_before: datetime | None) -> Ask | None:
    """What is left to do for a row that an earlier run has dealt with."""
    ended = history.fingerprint == prompt.fingerprint
    stale = stale_before is not None and history.completed_at is not None and history.completed_at < stale_before
    if ended and history.answered and not stale:
        return None
    if history.trying and history.last_fingerprint == prompt.fingerprint:
        return Ask(prompt, history.last)
    if ended and not history.answered:
        return Ask(prompt, history.last) if retry_failed else None
    # Another question now, or an answer that is too old: whatever ran before is of no use.
    return Ask(prompt, replace(history.last, run_ended=True) if history.last else None)


async def hold(path: Path, stack: AsyncExitStack, *, wait: bool) -> None:
    """Hold the output for this process, at once or (with `wait`) as soon as it is free."""
    while True:
        try:
            stack.enter_context(held(path))
            return
        except OutputHeld:
            if not wait:
                raise
        await anyio.sleep(LOOK_AGAIN_S)


@contextmanager
def held(path: Path, otherwise: str = "--wait waits for it") -> Iterator[None]:
    """Hold the output for this process.

    Args:
        path: of the lock.
        otherwise: what to do where another process holds it, for the message.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        # `status` holds it for a moment to see whether anyone else does.
        lock.acquire(timeout=PROBE_PATIENCE_S, poll_interval=PROBE_PATIENCE_S / 10)
    except Timeout:
        raise OutputHeld(f"another batch works on this output (it holds {path}); {otherwise}") from None
    except OSError as exc:
        raise OutputError(f"{path}: cannot be created ({exc.strerror or exc})") from None
    try:
        yield
    finally:
        lock.release()


async def _obey_signals(engine: Engine, grace_s: float, leave: Callable[[int], None]) -> None:
    watched = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP"):
        watched.append(signal.SIGHUP)
    earlier = {number: signal.getsignal(number) for number in watched}
    # What is ignored stays ignored: `nohup` asks for that.
    watched = [number for number in watched if earlier[number] is not signal.SIG_IGN]
    try:
        with anyio.open_signal_receiver(*watched) as received:
            async for number in received:
                exit_code = 128 + number
                if engine.stop is not None:
                    leave(exit_code)
                engine.request_stop(Stop(f"interrupted by {number.name}", exit_code), grace_s)
    finally:
        # The loop leaves the system's defaults behind, not what the caller had.
        for number in watched:
            signal.signal(number, earlier[number] or signal.SIG_DFL)


async def keep_checkpoints(journal: Journal) -> None:
    """Bound what a power cut may take."""
    while True:
        await anyio.sleep(CHECKPOINT_EVERY_S)
        await anyio.to_thread.run_sync(journal.checkpoint)
