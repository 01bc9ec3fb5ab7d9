"""The batches at the service's Batch API, as facts for machines and as lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import TypedDict

from batchrun.journal.service_batches import UNSENT, ServiceBatch
from batchrun.services.batch_api.watching import BatchNews
from batchrun.wording import counted, duration, local_time

__all__ = [
    "NewsFacts",
    "ServiceBatchFacts",
    "news_facts",
    "news_text",
    "results_text",
    "service_batch_facts",
    "service_batch_lines",
    "service_batch_text",
]

SHOWN = 5
"""Service batches that are shown one by one."""


class ServiceBatchFacts(TypedDict):
    """A batch at the service. Moments are UTC in ISO 8601; the service's counts may be wrong, None if unknown."""

    batch_id: str | None
    status: str
    since: str
    created_at: str | None
    endpoint: str
    model: str | None
    requests: int
    completed: int | None
    failed: int | None


class NewsFacts(TypedDict):
    """Something that has happened to a batch at the service, as `run --json` prints it. `text` is for people."""

    event: str
    kind: str
    text: str
    service_batch: ServiceBatchFacts


def news_facts(news: BatchNews) -> NewsFacts:
    """Return what happened to a service batch for machines."""
    return {
        "event": "service_batch",
        "kind": news.kind,
        "text": news_text(news),
        "service_batch": service_batch_facts(news.batch),
    }


def service_batch_facts(batch: ServiceBatch) -> ServiceBatchFacts:
    """Return a service batch for machines."""
    return {
        "batch_id": batch.batch_id,
        "status": "submitting" if batch.status in UNSENT else batch.status,
        "since": batch.since,
        "created_at": batch.created_at,
        "endpoint": batch.endpoint,
        "model": batch.model,
        "requests": batch.lines,
        "completed": batch.completed,
        "failed": batch.failed,
    }


def service_batch_text(facts: ServiceBatchFacts, now: datetime) -> str:
    """Return a service batch for people: what it is doing and since when, such as
    `batch_1: in_progress since 2026-11-30 14:05:12+01:00 (3:02:10), 120 of 500 requests`."""
    since = datetime.fromisoformat(facts["since"])
    age = duration(max(0.0, (now - since).total_seconds()))
    done = (facts["completed"] or 0) + (facts["failed"] or 0)
    requests = counted(facts["requests"], "request")
    return f"{facts['batch_id'] or 'batch'}: {facts['status']} since {local_time(since)} ({age}), " + (
        f"{done:,} of {requests}" if done else requests
    )


def service_batch_lines(batches: Sequence[ServiceBatchFacts], now: datetime) -> list[str]:
    """Return lines about some service batches; of many, the oldest ones and the number of the others by status."""
    lines = [service_batch_text(each, now) for each in batches[:SHOWN]]
    if others := Counter(each["status"] for each in batches[SHOWN:]):
        counts = ", ".join(f"{number:,} {status}" for status, number in others.most_common())
        lines.append(f"and {others.total():,} more: {counts}")
    return lines


def results_text(answers: int, errors: int) -> str:
    """Return how many requests have an answer and how many ended without one: with an error, cancelled or expired."""
    text = counted(answers, "answer")
    return f"{text}; {counted(errors, 'request')} ended without one" if errors else text


def news_text(news: BatchNews) -> str:
    """Return a line about what happened to a service batch."""
    batch = news.batch
    name = batch.batch_id or f"batch {batch.number}"
    size = counted(batch.lines, "request")
    match news.kind:
        case "submitted":
            return f"{name}: submitted with {size}" + (f" of {batch.model}" if batch.model is not None else "")
        case "status":
            return f"{name}: {batch.status}"
        case "collected" if not news.text:
            missing = f", {batch.missing:,} without a result" if batch.missing else ""
            unknown = f", {batch.unknown:,} unknown results" if batch.unknown else ""
            return f"{name}: collected {results_text(batch.answers, batch.errors)}{missing}{unknown}"
        case _:
            return f"{name}: {news.text}"
