"""The state of a batch as its journal knows it; also while the batch runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from batchrun.batch.left_out import LeftOut
from batchrun.batch.left_shards import take_in
from batchrun.batch.lock import is_held
from batchrun.batch.output_place import put_text
from batchrun.batch.paths import paths_of_output
from batchrun.batch.row_models import fallback_lines, model_lines
from batchrun.batch.service_batch_text import ServiceBatchFacts, service_batch_facts, service_batch_lines
from batchrun.clock import utc_now
from batchrun.journal import Journal, ModelFacts, manifest_of, place_of
from batchrun.records import Settings
from batchrun.wording import cost_text, local_time, rows_text, shown_output

__all__ = ["StatusFacts", "batch_status", "status_facts", "status_lines"]


class StatusFacts(TypedDict):
    """The state of a batch, as `status --json` prints it.

    `rows` leaves out the skipped ones. `input` is "-" for standard input and None for a DataFrame. Cost is in US
    dollars, None if no row's cost is known; `unpriced` counts the rows with tokens or an answer, whose cost is unknown.
    """

    output: str
    put_to: str | None
    put_at: str | None
    batch_id: str
    created_at: str
    running: bool
    input: str | None
    model: str | None
    embedded: bool
    rows: int
    completed: int
    incomplete: int
    failed: int
    failures: Mapping[str, int]
    in_flight: int
    pending: int
    skipped: int
    from_cache: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    unpriced: int
    models: Mapping[str, ModelFacts]
    fallbacks: Mapping[str, int]
    service_batches: list[ServiceBatchFacts]


def batch_status(output: Path) -> StatusFacts:
    """Return the state of a batch.

    Raises:
        OutputError: there is no journal, or it cannot be read.
    """
    paths = paths_of_output(output)
    take_in(paths)
    with Journal(paths.journal, read_only=True) as journal:
        return status_facts(paths.output, journal, running=is_held(paths.lock))


def status_facts(output: Path, journal: Journal, *, running: bool) -> StatusFacts:
    """Return the state of the batch in an open journal.

    Raises:
        OutputError: the journal holds no batch, or cannot be read.
    """
    manifest, counts, failures = manifest_of(journal), journal.counts(), journal.failures()
    left_out = LeftOut.recorded(manifest)
    rows = manifest["rows"] - left_out.skipped
    counts, failures = left_out.less_counts(counts), left_out.less_failures(failures)
    failed = sum(failures.values())
    ended = counts.completed + counts.incomplete + failed
    put = manifest.get("put_to") or {}
    return {
        "output": str(output),
        "put_to": put.get("place"),
        "put_at": put.get("at"),
        "batch_id": manifest["batch_id"],
        "created_at": manifest["created_at"],
        "running": running,
        "input": manifest["input"],
        "model": _models(manifest["settings"]),
        "embedded": manifest["settings"]["embedded"],
        "rows": rows,
        "completed": counts.completed,
        "incomplete": counts.incomplete,
        "failed": failed,
        "failures": failures,
        "in_flight": counts.in_flight,
        # Rows of an earlier, longer input may still be in the journal.
        "pending": max(0, rows - ended - counts.in_flight),
        "skipped": left_out.skipped,
        "from_cache": journal.cached.count() if manifest.get("cache") else 0,
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "cost_usd": counts.cost_usd,
        "unpriced": counts.unpriced,
        "models": left_out.less_models(journal.models.totals()),
        "fallbacks": journal.models.fallbacks() if manifest.get("fallback_model") else {},
        "service_batches": [service_batch_facts(each) for each in journal.service_batches.open(place_of(manifest))],
    }


def _models(settings: Settings) -> str | None:
    """Return the model of the batch; with a matrix of models, all of them."""
    several = settings.get("matrix", {}).get("model")
    return ", ".join(several) if several else settings["model"]


def status_lines(facts: StatusFacts) -> list[str]:
    """Return `batch_status` for people."""
    ended = facts["completed"] + facts["incomplete"] + facts["failed"]
    if facts["running"]:
        state = "running"
    elif facts["service_batches"]:
        state = "at the service's Batch API; run the same command again to collect the answers"
    elif ended == facts["rows"]:
        state = "finished"
    else:
        state = "stopped; run the same command again to finish the rest"
    cost = cost_text(facts["cost_usd"], unpriced=facts["unpriced"], embedded=facts["embedded"]) or "cost unknown"
    cached = f" · {facts['from_cache']:,} from the cache" if facts["from_cache"] else ""
    output = shown_output(Path(facts["output"]))
    lines = [
        f"{output}: {state} · {facts['batch_id']} · since {local_time(facts['created_at'])}",
        f"{ended:,} of {rows_text(facts['rows'])} ended: {facts['completed']:,} completed, "
        f"{facts['incomplete']:,} incomplete, {facts['failed']:,} failed · {facts['in_flight']:,} in flight · "
        f"{facts['pending']:,} pending" + (f" · {facts['skipped']:,} skipped" if facts["skipped"] else "") + cached,
        f"{facts['prompt_tokens']:,} tokens in, {facts['completion_tokens']:,} out · {cost} · model {facts['model']}",
    ]
    if facts["put_to"] is not None:
        lines.append(put_text(facts["put_to"], facts["put_at"]))
    lines += model_lines(facts["models"], embedded=facts["embedded"])
    lines += fallback_lines(facts["fallbacks"])
    lines += [f"  {number:,} × {kind}" for kind, number in facts["failures"].items()]
    lines += [f"  {line}" for line in service_batch_lines(facts["service_batches"], utc_now())]
    return lines
