"""GradingCost: what it would take to ask a grader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from batchrun.scoring.score_facts import GradingCostFacts
from batchrun.wording import dollars

__all__ = ["GradingCost", "RequestCost", "cost_lines"]


@dataclass(frozen=True, slots=True)
class RequestCost:
    """What it would take to send requests.

    Attributes:
        requests: number of requests.
        to_ask: those without a reply from an earlier scoring.
        prompt_tokens, completion_tokens: of the requests to send, estimated.
        cost_usd: of the requests to send; None if a price is unknown.
        details: how tokens and cost were estimated, or why the cost is unknown; lines for people.
    """

    requests: int
    to_ask: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GradingCost:
    """What it would take to ask a grader.

    Attributes:
        grader: its name.
        model: as its job names it.
        table: what it grades.
        cost: of its requests.
    """

    grader: str
    model: str | None
    table: str
    cost: RequestCost

    def facts(self) -> GradingCostFacts:
        """Return the cost as JSON."""
        return {
            "grader": self.grader,
            "model": self.model,
            "table": self.table,
            "requests": self.cost.requests,
            "to_ask": self.cost.to_ask,
            "prompt_tokens": self.cost.prompt_tokens,
            "completion_tokens": self.cost.completion_tokens,
            "cost_usd": self.cost.cost_usd,
        }


def cost_lines(costs: Iterable[GradingCost]) -> Iterator[str]:
    """Yield lines for the terminal: each grader, then the sum of several."""
    listed = list(costs)
    for each in listed:
        cost = each.cost
        price = "cost unknown" if cost.cost_usd is None else f"about {dollars(cost.cost_usd)}"
        requests = f"{cost.requests:,} request{'' if cost.requests == 1 else 's'}, {cost.to_ask:,} to send"
        yield (
            f"grader {each.grader} for {each.table} · {requests} · about "
            f"{cost.prompt_tokens:,} tokens in, {cost.completion_tokens:,} out · {price}"
        )
        yield from (f"  {line}" for line in cost.details)
    known = [each.cost.cost_usd for each in listed if each.cost.cost_usd is not None]
    if len(listed) > 1 and known:
        rest = ", without the graders of unknown cost" if len(known) < len(listed) else ""
        yield f"in all about {dollars(sum(known))}{rest}"
