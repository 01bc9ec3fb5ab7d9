"""ScoringCosts: what it would take to ask the graders of a table, and to have its texts embedded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from batchrun.scoring.score_facts import EmbeddingsCostFacts, GradingCostFacts, ScoringCostFacts
from batchrun.wording import counted, dollars

__all__ = ["EmbeddingsCost", "GradingCost", "RequestCost", "ScoringCosts"]


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


@dataclass(frozen=True, slots=True)
class EmbeddingsCost:
    """The requests of a scorer of embeddings. They have no price here, and every scoring sends them.

    Attributes:
        scorer: its name.
        model: the embedding model.
        table: what it scores.
        requests: number of requests.
        texts: number of texts in them.
    """

    scorer: str
    model: str
    table: str
    requests: int
    texts: int

    def facts(self) -> EmbeddingsCostFacts:
        """Return the requests as JSON."""
        return {
            "scorer": self.scorer,
            "model": self.model,
            "table": self.table,
            "requests": self.requests,
            "texts": self.texts,
        }

    def line(self) -> str:
        """Return the requests as a line for the terminal."""
        return (
            f"embeddings {self.scorer} for {self.table} · {counted(self.requests, 'request')} with {self.texts:,} "
            f"text{'' if self.texts == 1 else 's'} to {self.model} · not priced"
        )


@dataclass(frozen=True, slots=True)
class ScoringCosts:
    """What it would take to score tables.

    Attributes:
        graders: one entry for each grader and table.
        embeddings: one entry for each scorer of embeddings and table.
    """

    graders: Sequence[GradingCost] = ()
    embeddings: Sequence[EmbeddingsCost] = ()

    def __add__(self, other: ScoringCosts) -> ScoringCosts:
        return ScoringCosts([*self.graders, *other.graders], [*self.embeddings, *other.embeddings])

    @property
    def cost_usd(self) -> float | None:
        """The cost in US dollars; None if it is unknown for a request."""
        known = [each.cost.cost_usd for each in self.graders if each.cost.cost_usd is not None]
        is_known = len(known) == len(self.graders) and not any(each.requests for each in self.embeddings)
        return sum(known) if is_known else None

    def facts(self) -> ScoringCostFacts:
        """Return the costs as JSON."""
        return {
            "graders": [each.facts() for each in self.graders],
            "embeddings": [each.facts() for each in self.embeddings],
        }

    def lines(self) -> Iterator[str]:
        """Yield lines for the terminal: each grader, each scorer of embeddings, then the sum of several."""
        if not self.graders and not self.embeddings:
            yield "no scorer asks a grader: nothing would be sent"
        for each in self.graders:
            cost = each.cost
            price = "cost unknown" if cost.cost_usd is None else f"about {dollars(cost.cost_usd)}"
            yield (
                f"grader {each.grader} for {each.table} · {counted(cost.requests, 'request')}, {cost.to_ask:,} to send "
                f"· about {cost.prompt_tokens:,} tokens in, {cost.completion_tokens:,} out · {price}"
            )
            yield from (f"  {line}" for line in cost.details)
        yield from (each.line() for each in self.embeddings)
        known = [each.cost.cost_usd for each in self.graders if each.cost.cost_usd is not None]
        if len(self.graders) + len(self.embeddings) > 1 and known:
            left_out = [
                *(["the graders of unknown cost"] if len(known) < len(self.graders) else []),
                *(["the embeddings"] if self.embeddings else []),
            ]
            rest = f", without {' and '.join(left_out)}" if left_out else ""
            yield f"in all about {dollars(sum(known))}{rest}"
