"""What a run says about its batches at the Batch API."""

from __future__ import annotations

import pytest

from batchrun.batch.service_batch_tally import ServiceBatchTally, done_text, tally_lines
from batchrun.journal.service_batches import ServiceBatch
from batchrun.services.batch_api.watching import BatchNews, NewsKind

PREFIX = "at the service's Batch API: "


def news(kind: NewsKind, status: str = "completed", again: int = 0, batch_id: str | None = "batch_1") -> BatchNews:
    batch = ServiceBatch(1, "http://x/v1", "/v1/responses", "m", 5, status, "2026-01-01T00:00:00+00:00",
                         batch_id=batch_id)  # fmt: skip
    return BatchNews(kind, batch, again=again)


@pytest.mark.parametrize(
    ("happened", "done", "lines"),
    [
        ([], "submitted and collected nothing", []),
        ([news("submitted")], "submitted 5 requests in 1 batch", []),
        ([news("submitted")] * 2 + [news("collected")], "submitted 10 requests in 2 batches and collected 1 batch", []),
        ([news("collected", "expired")] * 2, "collected 2 batches", ["2 batches expired"]),
        ([news("collected", "cancelled")], "collected 1 batch", ["1 batch was cancelled"]),
        ([news("dropped", again=3)], "submitted and collected nothing", ["1 batch failed; 3 rows were asked again"]),
        ([news("held", again=5, batch_id=None)], "submitted and collected nothing", []),
        (
            [news("collected", "expired"), news("collected", "failed"), news("dropped", again=1)],
            "collected 2 batches",
            ["1 batch expired, 2 batches failed; 1 row was asked again"],
        ),
    ],
)
def test_a_run_says_what_it_did(happened: list[BatchNews], done: str, lines: list[str]) -> None:
    """Submitted, collected, expired, failed and cancelled batches are counted, and the rows that were asked again."""
    tally = ServiceBatchTally()
    for each in happened:
        tally.take(each)
    facts = tally.facts(0)
    assert (done_text(facts), tally_lines(facts)) == (done, [f"{PREFIX}{line}" for line in lines])
