"""Recalculates costs from the usage that the journal recorded, with today's prices or the user's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TypedDict

from batchrun.batch.left_shards import take_in
from batchrun.batch.lock import held
from batchrun.batch.paths import paths_for
from batchrun.clock import WallClock, utc_now
from batchrun.errors import InputError
from batchrun.job.file import load_job_file
from batchrun.job.validation import make_job
from batchrun.journal import Journal, manifest_of
from batchrun.journal.bills import Bill, Ledger, read_bills, write_costs
from batchrun.pricing import OWN, MatchedPrice, PriceFacts, PriceList, no_price_text
from batchrun.records import Manifest
from batchrun.shell_hint import command
from batchrun.wording import FREE, cost_cell, counted, dollars, rows_text

__all__ = [
    "CostFacts",
    "Costs",
    "ModelCostFacts",
    "ModelCosts",
    "batch_costs",
    "cost_facts",
    "cost_lines",
    "prices_of_file",
]


@dataclass(slots=True)
class ModelCosts:
    """The bills of one model in one ledger, added up.

    Mutable state: all counts and sums; `add` fills them.

    Attributes:
        price: the price that the model's name was matched to, None if it is unknown.
        recorded: US dollars in the journal, as known when the rows ended.
        recorded_unknown: rows without a recorded cost.
        computed: US dollars with the current prices.
        computed_unknown: rows whose price or usage is unknown now.
    """

    model: str | None
    ledger: Ledger
    price: MatchedPrice | None
    rows: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    recorded: Decimal = Decimal(0)
    recorded_unknown: int = 0
    computed: Decimal = Decimal(0)
    computed_unknown: int = 0

    def add(self, bill: Bill, cost: Decimal | None) -> None:
        """Add the bill of one row."""
        self.rows += 1
        self.prompt_tokens += bill.usage.prompt_tokens or 0
        self.cached_tokens += bill.usage.cached_tokens or 0
        self.completion_tokens += bill.usage.completion_tokens or 0
        if bill.cost_usd is None:
            self.recorded_unknown += 1
        else:
            self.recorded += Decimal(str(bill.cost_usd))
        if cost is None:
            self.computed_unknown += 1
        else:
            self.computed += cost


@dataclass(slots=True)
class Costs:
    """The cost of a batch, recorded and computed.

    Mutable state: `models` and `written`; `batch_costs` fills them.

    Attributes:
        embedded: the embedded server answered, which is free.
        models: one entry per model and ledger; the current answers first.
        written: rows whose recorded cost was replaced, None if none was to be replaced.
        unanswered: requests whose answer was not seen, which may be billed too; those in flight are among them.
        unknown_usd: what --budget counts besides the recorded costs: for these requests, for runs without usage, for
            rows in flight, and what is unaccounted.
        unaccounted_usd: what workers on Ray, whose journals are lost, may have spent besides.
    """

    output: Path
    embedded: bool
    unanswered: int
    unknown_usd: float
    unaccounted_usd: float
    models: list[ModelCosts] = field(default_factory=list)
    written: int | None = None


def prices_of_file(path: Path, environ: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Return the price table of a job file.

    Raises:
        InputError: the file cannot be read, or has no prices.
    """
    _, options = load_job_file(path, environ)
    prices = make_job({"prices": options.get("prices", {})}).prices
    if not prices:
        raise InputError(f'{path} has no prices: add a table such as [prices."NAME"] with input and output')
    return prices


def batch_costs(
    output: Path,
    own: Mapping[str, Mapping[str, float]] | None = None,
    *,
    write: bool = False,
    clock: WallClock = utc_now,
) -> Costs:
    """Price every run of a batch again.

    Args:
        output: the batch's output, or its journal.
        own: the user's prices; None uses those of the batch's last run.
        write: replace the recorded costs. A row whose cost cannot be computed now keeps its recorded one.

    Raises:
        InputError: `own` is invalid.
        OutputError: there is no journal, or it cannot be read or written.
        OutputHeld: `write` is set and the batch is running.
    """
    paths = paths_for(output.with_name(output.name.removesuffix(".journal")))
    take_in(paths)
    with ExitStack() as stack:
        with Journal(paths.journal, read_only=True) as journal:
            manifest = manifest_of(journal)
            spending = journal.spending
            left_out = (spending.unanswered(), spending.unknown_usd(), spending.unaccounted_usd)
        if write:
            stack.enter_context(held(paths.lock, "write the costs after its end"))
        settings = manifest["settings"]
        costs = Costs(paths.output, settings["embedded"], *left_out)
        price = PriceList(
            manifest["base_url"],
            _recorded_own(manifest) if own is None else own,
            embedded=settings["embedded"],
            service_tier=settings.get("param", {}).get("service_tier"),
            clock=clock,
        )
        priced = _priced(paths.journal, price, settings["model"], costs)
        if not write:
            for _ in priced:
                pass
            return costs
        costs.written = write_costs(paths.journal, ((bill, float(cost)) for bill, cost in priced if cost is not None))
        with Journal(paths.journal) as journal:
            used = [entry.price.facts() for entry in costs.models if entry.price is not None]
            recorded = manifest.get("prices", [])
            journal.write_manifest({"prices": [*recorded, *(facts for facts in used if facts not in recorded)]})
    return costs


def _recorded_own(manifest: Manifest) -> dict[str, dict[str, float]]:
    """Return the user's prices in the batch's last run."""
    return {
        match["matched"]: {name: float(text) for name, text in match["usd_per_million_tokens"][0].items()}
        for match in manifest.get("prices", [])
        if match["source"] == OWN
    }


def _priced(
    journal: Path, price: PriceList, requested_model: str | None, costs: Costs
) -> Iterator[tuple[Bill, Decimal | None]]:
    """Yield every bill and its cost now, and add it to `costs`."""
    entries: dict[tuple[Ledger, str | None], ModelCosts] = {}
    for bill in read_bills(journal):
        # A failed row has no reported model: the requested one is assumed.
        model = bill.model or requested_model
        entry = entries.get((bill.ledger, model))
        if entry is None:
            entry = entries[bill.ledger, model] = ModelCosts(model, bill.ledger, price.matched(model))
            costs.models.append(entry)
        cost = price.exact(model, bill.usage)
        entry.add(bill, cost)
        yield bill, cost


class _SumFacts(TypedDict):
    """US dollars, None if no row's cost is known, and the rows of unknown cost."""

    recorded_usd: float | None
    recorded_unknown: int
    computed_usd: float | None
    computed_unknown: int


class ModelCostFacts(_SumFacts):
    """One model. `replaced`: its answers were replaced by later ones."""

    model: str | None
    replaced: bool
    price: PriceFacts | None
    rows: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


class CostFacts(_SumFacts):
    """The costs of a batch, as `costs --json` prints them. `written` counts the rows whose cost was replaced,
    `unanswered` the requests whose answer was not seen. `unknown_usd` is what --budget counts besides the recorded
    costs, and `unaccounted_usd` the part of it that workers on Ray, whose journals are lost, may have spent."""

    output: str
    embedded: bool
    models: list[ModelCostFacts]
    written: int | None
    unanswered: int
    unknown_usd: float
    unaccounted_usd: float


def cost_facts(costs: Costs) -> CostFacts:
    """Return the costs for machines."""
    return {
        "output": str(costs.output),
        "embedded": costs.embedded,
        "models": [
            {
                "model": entry.model,
                "replaced": entry.ledger == "superseded",
                "price": entry.price.facts() if entry.price is not None else None,
                "rows": entry.rows,
                "prompt_tokens": entry.prompt_tokens,
                "cached_tokens": entry.cached_tokens,
                "completion_tokens": entry.completion_tokens,
                **_sums([entry]),
            }
            for entry in costs.models
        ],
        **_sums(costs.models),
        "written": costs.written,
        "unanswered": costs.unanswered,
        "unknown_usd": costs.unknown_usd,
        "unaccounted_usd": costs.unaccounted_usd,
    }


def _sums(entries: list[ModelCosts]) -> _SumFacts:
    """Return the totals over some models."""
    recorded_unknown = sum(entry.recorded_unknown for entry in entries)
    computed_unknown = sum(entry.computed_unknown for entry in entries)
    rows = sum(entry.rows for entry in entries)
    return {
        "recorded_usd": float(sum(entry.recorded for entry in entries)) if rows > recorded_unknown else None,
        "recorded_unknown": recorded_unknown,
        "computed_usd": float(sum(entry.computed for entry in entries)) if rows > computed_unknown else None,
        "computed_unknown": computed_unknown,
    }


def cost_lines(costs: Costs) -> list[str]:
    """Return the costs for people: a table, the prices, and what to do next."""
    left_out = []
    if costs.unanswered and not costs.embedded:
        requests = counted(costs.unanswered, "request")
        left_out.append(f"not in these sums: {requests} whose answer was not seen, which may be billed too")
    if costs.unaccounted_usd:
        lost = f"{dollars(costs.unaccounted_usd)} that workers on Ray, whose journals are lost, may have spent"
        left_out.append(f"not in these sums: up to {lost}")
    if costs.unknown_usd:
        left_out.append(
            f"--budget counts {dollars(costs.unknown_usd)} besides the recorded costs, for what nobody knows"
        )
    if not costs.models:
        return [f"{costs.output}: no row has used tokens yet", *left_out]
    lines = [*_table(costs), *left_out]
    lines += dict.fromkeys(entry.price.line() for entry in costs.models if entry.price is not None)
    unpriced = dict.fromkeys(entry.model for entry in costs.models if entry.price is None)
    if costs.embedded:
        lines += [f"{FREE}: the embedded server answered"] if unpriced else []
    else:
        lines += [f"{no_price_text(name)}, and give that file with --prices" for name in unpriced]
    if costs.written is not None:
        lines.append(
            f"{rows_text(costs.written)} changed in the journal; {command('export', costs.output)} writes the table"
        )
    return lines


def _table(costs: Costs) -> list[str]:
    """Return one line per model, the names to the left and the numbers to the right; a total of several models."""
    table: list[tuple[str, ...]] = [("model", "rows", "tokens in", "cached", "out", "recorded", "computed")]
    for entry in costs.models:
        counts = (entry.rows, entry.prompt_tokens, entry.cached_tokens, entry.completion_tokens)
        name = (entry.model or "unknown") + (" (replaced)" if entry.ledger == "superseded" else "")
        table.append((name, *(f"{count:,}" for count in counts), *_amounts(costs, [entry])))
    if len(costs.models) > 1:
        rows = sum(entry.rows for entry in costs.models)
        table.append(("total", f"{rows:,}", "", "", "", *_amounts(costs, costs.models)))
    first, *widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join([name.ljust(first), *(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))])
        for name, *cells in table
    ]


def _amounts(costs: Costs, entries: list[ModelCosts]) -> tuple[str, str]:
    """Return recorded and computed US dollars for people."""
    sums = _sums(entries)
    return (
        cost_cell(sums["recorded_usd"], unpriced=sums["recorded_unknown"], embedded=costs.embedded),
        cost_cell(sums["computed_usd"], unpriced=sums["computed_unknown"], embedded=costs.embedded),
    )
