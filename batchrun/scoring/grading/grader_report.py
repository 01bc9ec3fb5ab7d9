"""GraderReport: the counts and costs of one grader for one table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from batchrun.scoring.score_facts import GraderFacts
from batchrun.wording import dollars, shown_path

__all__ = ["GraderReport", "grader_lines"]


@dataclass(frozen=True, slots=True)
class GraderReport:
    """The counts and costs of one grader for one table.

    Attributes:
        grader: name of the grader.
        model: model as the job names it.
        requests: number of different requests, over all votes.
        asked: requests that had no answer from an earlier scoring.
        read, unread, failed: readable verdicts, unreadable verdicts, and failed requests; together at most `requests`.
        prompt_tokens, completion_tokens: tokens of all requests, of earlier scorings too.
        cost_usd: cost of all requests without the `unpriced` ones; None if unknown.
        unpriced: requests whose cost is unknown.
        table: table of the verdicts, with the grader's own words; None without requests.
    """

    grader: str
    model: str | None
    requests: int
    asked: int
    read: int
    unread: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    unpriced: int
    table: Path | None

    def facts(self) -> GraderFacts:
        """Return the report as JSON."""
        return {
            "grader": self.grader,
            "model": self.model,
            "requests": self.requests,
            "asked": self.asked,
            "read": self.read,
            "unread": self.unread,
            "failed": self.failed,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost_usd": self.cost_usd,
            "unpriced": self.unpriced,
            "table": None if self.table is None else str(self.table),
        }


def grader_lines(reports: Iterable[GraderReport]) -> Iterator[str]:
    """Yield one line per report for the terminal."""
    for each in reports:
        cost = "" if each.cost_usd is None else dollars(each.cost_usd)
        if each.unpriced:
            cost += f", unknown for {each.unpriced:,} of them" if cost else "cost unknown"
        parts = [
            f"grader {each.grader}",
            f"{each.requests:,} verdict{'' if each.requests == 1 else 's'}",
            f"{each.asked:,} requested now" if each.requests else "",
            f"{each.unread:,} not readable" if each.unread else "",
            f"{each.failed:,} failed" if each.failed else "",
            f"{each.prompt_tokens:,} tokens in, {each.completion_tokens:,} out",
            cost,
            shown_path(each.table) if each.table is not None else "",
        ]
        yield " · ".join(filter(None, parts))
