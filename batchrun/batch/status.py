"""The state of a batch, seen from outside, and its table exported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchrun.batch.lock import is_held
from batchrun.batch.paths import paths_of_output
from batchrun.journal import Journal
from batchrun.wording import FREE, dollars, rows_text

__all__ = ["batch_status", "status_lines"]


def batch_status(output: Path) -> dict[str, Any]:
    """How a batch stands.

    Raises:
        OutputError: there is no journal, or it cannot be read.
    """
    paths = paths_of_output(output)
    with Journal(paths.journal, read_only=True) as journal:
        manifest, counts, failures = journal.read_manifest(), journal.counts(), journal.failures()
    rows = manifest["rows"]
    ended = counts.completed + counts.incomplete + counts.failed
    return {
        "output": str(paths.output),
        "batch_id": manifest["batch_id"],
        "created_at": manifest["created_at"],
        "running": is_held(paths.lock),
        "input": manifest["input"],
        "model": _models(manifest["settings"]),
        "embedded": manifest["settings"]["embedded"],
        "rows": rows,
        "completed": counts.completed,
        "incomplete": counts.incomplete,
        "failed": counts.failed,
        "failures": failures,
        "in_flight": counts.in_flight,
        "pending": max(0, rows - ended - counts.in_flight),
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "cost_usd": counts.cost_usd,
    }


def _models(settings: Mapping[str, Any]) -> str | None:
    """The model that is asked, or all of them."""
    several = settings.get("matrix", {}).get("model")
    return ", ".join(several) if several else settings["model"]


def status_lines(facts: Mapping[str, Any]) -> list[str]:
    """`batch_status` for people."""
    ended = facts["completed"] + facts["incomplete"] + facts["failed"]
    if facts["running"]:
        state = "running"
    elif ended == facts["rows"]:
        state = "finished"
    else:
        state = "stopped; the same command goes on"
    if facts["cost_usd"] is not None:
        cost = dollars(facts["cost_usd"])
    else:
        cost = FREE if facts["embedded"] else "cost unknown"
    lines = [
        f"{facts['output']}: {state} · {facts['batch_id']} · since {facts['created_at'][:19]}Z",
        f"{ended:,} of {rows_text(facts['rows'])} ended: {facts['completed']:,} completed, "
        f"{facts['incomplete']:,} incomplete, {facts['failed']:,} failed · {facts['in_flight']:,} in flight · "
        f"{facts['pending']:,} not asked",
        f"{facts['prompt_tokens']:,} tokens in, {facts['completion_tokens']:,} out · {cost} · model {facts['model']}",
    ]
    lines += [f"  {number:,} × {kind}" for kind, number in facts["failures"].items()]
    return lines
