"""Costs computed again, from the usage that the journal recorded, with the prices of today or of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from batchrun.batch.lock import held
from batchrun.batch.paths import paths_for
from batchrun.clock import WallClock, utc_now
from batchrun.errors import InputError
from batchrun.job.file import load_job_file
from batchrun.job.validation import make_job
from batchrun.journal import Journal
from batchrun.journal.bills import Bill, Ledger, read_bills, write_costs
from batchrun.pricing import OWN, MatchedPrice, PriceList
from batchrun.wording import FREE, dollars, rows_text

__all__ = ["Costs", "ModelCosts", "batch_costs", "cost_facts", "cost_lines", "prices_of_file"]


@dataclass(slots=True)
class ModelCosts:
    """The bills of one model in one ledger, added up.

    Attributes:
        recorded: US dollars in the journal, as they were known when the rows ended.
        recorded_unknown: rows that have none there.
        computed: US dollars by the prices given now.
        computed_unknown: rows whose price, or whose usage, is not known now.
        price: what the model's name was matched to, None where no price is known.
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
        """Count one row."""
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
    """What a batch cost, recorded and computed.

    Attributes:
        embedded: the embedded server answered, which is free.
        models: one entry a model and ledger; the standing answers first.
        written: rows whose recorded cost was replaced, None where none was to be.
    """

    output: Path
    embedded: bool
    models: list[ModelCosts] = field(default_factory=list)
    written: int | None = None


def prices_of_file(path: Path, environ: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """The table of prices in a job file.

    Raises:
        InputError: the file cannot be read, or has none.
    """
    _, options = load_job_file(path, environ)
    prices = make_job({"prices": options.get("prices", {})}).prices
    if not prices:
        raise InputError(f'{path}: has no prices: add a table such as [prices."NAME"] with input and output')
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
        own: prices of one's own; None takes those that the batch was run with.
        write: replace the recorded costs. A row whose cost cannot be computed now keeps what it has.

    Raises:
        InputError: `own` is wrong.
        OutputError: there is no journal, or it cannot be read or written.
        OutputHeld: the costs are to be written and the batch is running.
    """
    paths = paths_for(output.with_name(output.name.removesuffix(".journal")))
    with ExitStack() as stack:
        with Journal(paths.journal, read_only=True) as journal:
            manifest = journal.read_manifest()
        if write:
            stack.enter_context(held(paths.lock, "write its costs when it ended"))
        settings = manifest["settings"]
        costs = Costs(paths.output, settings["embedded"])
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
            kept = manifest.get("prices", [])
            journal.write_manifest({"prices": [*kept, *(facts for facts in used if facts not in kept)]})
    return costs


def _recorded_own(manifest: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The own prices that the batch was last run with."""
    return {
        match["matched"]: {name: float(text) for name, text in match["usd_per_million_tokens"][0].items()}
        for match in manifest.get("prices", [])
        if match["source"] == OWN
    }


def _priced(
    journal: Path, price: PriceList, asked_model: str | None, costs: Costs
) -> Iterator[tuple[Bill, Decimal | None]]:
    """Every bill and its cost now; adds them up in `costs` as they pass."""
    entries: dict[tuple[Ledger, str | None], ModelCosts] = {}
    for bill in read_bills(journal):
        # A row that failed does not say which model was at work: it was the one that was asked for.
        model = bill.model or asked_model
        entry = entries.get((bill.ledger, model))
        if entry is None:
            entry = entries[bill.ledger, model] = ModelCosts(model, bill.ledger, price.matched(model))
            costs.models.append(entry)
        cost = price.exact(model, bill.usage)
        entry.add(bill, cost)
        yield bill, cost


def cost_facts(costs: Costs) -> dict[str, Any]:
    """Costs for machines."""
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
    }


def _sums(entries: list[ModelCosts]) -> dict[str, Any]:
    """Totals; None where the cost of no row is known."""
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
    """Costs for people: a table, what the prices are, and what to do next."""
    if not costs.models:
        return [f"{costs.output}: no row has taken a token yet"]
    table: list[tuple[str, ...]] = [("model", "rows", "tokens in", "cached", "out", "recorded", "computed")]
    for entry in costs.models:
        counts = (entry.rows, entry.prompt_tokens, entry.cached_tokens, entry.completion_tokens)
        name = (entry.model or "not told") + (" (replaced since)" if entry.ledger == "superseded" else "")
        table.append((name, *(f"{count:,}" for count in counts), *_shown(costs, [entry])))
    if len(costs.models) > 1:
        table.append(
            ("in all", f"{sum(entry.rows for entry in costs.models):,}", "", "", "", *_shown(costs, costs.models))
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    lines += dict.fromkeys(entry.price.line() for entry in costs.models if entry.price is not None)
    unpriced = dict.fromkeys(
        entry.model or "a model that was not told" for entry in costs.models if entry.price is None
    )
    if costs.embedded:
        lines += [f"{FREE}: the embedded server answered"] if unpriced else []
    else:
        lines += [f"no price is known for {name}: --prices FILE.toml can say it" for name in unpriced]
    if costs.written is not None:
        lines.append(
            f"{rows_text(costs.written)} changed in the journal; batchrun export {costs.output} writes the table"
        )
    return lines


def _shown(costs: Costs, entries: list[ModelCosts]) -> tuple[str, str]:
    sums = _sums(entries)

    def amount(name: str) -> str:
        amount_usd, unknown = sums[f"{name}_usd"], sums[f"{name}_unknown"]
        if amount_usd is None:
            return FREE if costs.embedded else "unknown"
        return f"{dollars(amount_usd)} + {unknown:,} unknown" if unknown and not costs.embedded else dollars(amount_usd)

    return amount("recorded"), amount("computed")
