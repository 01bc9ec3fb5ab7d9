"""What one run of batchrun has done at the service's Batch API, counted from what the desk reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from batchrun.services.batch_api.watching import BatchNews
from batchrun.wording import counted

__all__ = ["ServiceBatchTally", "TallyFacts", "done_text", "tally_lines"]


class TallyFacts(TypedDict):
    """What a run has done at the Batch API, as `run --json` prints it.

    `submitted`, `collected`, `expired`, `failed` and `cancelled` count batches at the service, `requests_submitted` the
    requests in the submitted ones; `rows_asked_again` the rows of which a request was sent once more.
    """

    submitted: int
    requests_submitted: int
    collected: int
    expired: int
    failed: int
    cancelled: int
    rows_asked_again: int


@dataclass(slots=True)
class ServiceBatchTally:
    """Counts the news of a run.

    Mutable state: all of it.

    Attributes:
        sent_again: requests that go into another batch, since theirs failed without running them.
    """

    submitted: int = 0
    requests_submitted: int = 0
    collected: int = 0
    expired: int = 0
    failed: int = 0
    cancelled: int = 0
    sent_again: int = 0

    def take(self, news: BatchNews) -> None:
        """Count one of the news."""
        batch = news.batch
        if news.kind == "submitted":
            self.submitted += 1
            self.requests_submitted += batch.lines
        elif news.kind == "collected":
            self.collected += 1
            self.expired += batch.status == "expired"
            self.cancelled += batch.status == "cancelled"
            self.failed += batch.status == "failed"
        elif news.kind in ("dropped", "held") and batch.batch_id is not None:
            self.failed += 1
            self.sent_again += news.again

    def facts(self, rows_asked_again: int) -> TallyFacts:
        """Return the counts for machines.

        Args:
            rows_asked_again: rows with another attempt in this run, after one that had failed.
        """
        return {
            "submitted": self.submitted,
            "requests_submitted": self.requests_submitted,
            "collected": self.collected,
            "expired": self.expired,
            "failed": self.failed,
            "cancelled": self.cancelled,
            "rows_asked_again": rows_asked_again + self.sent_again,
        }


def done_text(facts: TallyFacts) -> str:
    """Return what a run has done: `submitted 6 requests in 1 batch and collected 2 batches`."""
    submitted, collected = facts["submitted"], facts["collected"]
    parts = [
        f"submitted {counted(facts['requests_submitted'], 'request')} in {counted(submitted, 'batch')}",
        f"collected {counted(collected, 'batch')}",
    ]
    done = [part for part, number in zip(parts, (submitted, collected), strict=True) if number]
    return " and ".join(done) or "submitted and collected nothing"


def tally_lines(facts: TallyFacts) -> list[str]:
    """Return a line about batches at the service that did not end as they should; none if there were none."""
    ends = [
        f"{counted(facts['expired'], 'batch')} expired" if facts["expired"] else "",
        f"{counted(facts['failed'], 'batch')} failed" if facts["failed"] else "",
        f"{counted(facts['cancelled'], 'batch')} {'was' if facts['cancelled'] == 1 else 'were'} cancelled"
        if facts["cancelled"]
        else "",
    ]
    found = ", ".join(filter(None, ends))
    again = facts["rows_asked_again"]
    asked = f"{counted(again, 'row')} {'was' if again == 1 else 'were'} asked again" if again else ""
    line = "; ".join(filter(None, (found, asked)))
    return [f"at the service's Batch API: {line}"] if line else []
