"""What `score` and `compare` with a judge return with `dry_run=True`: what their graders would cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from batchrun.api.notebook import lines_html
from batchrun.api.parameters import in_python
from batchrun.estimate.dry_plan import dry_plan
from batchrun.estimate.dry_run import dry_run
from batchrun.estimate.token_guess import o200k_counter
from batchrun.job.environment import Environment
from batchrun.job.options import Job
from batchrun.pricing import no_price_text
from batchrun.scoring.grading.asking import CostOf
from batchrun.scoring.grading.grading_cost import EmbeddingsCost, GradingCost, RequestCost, ScoringCosts
from batchrun.scoring.score_facts import ScoringCostFacts
from batchrun.wording import FREE

__all__ = ["ScoringEstimate", "request_cost"]


@dataclass(frozen=True, slots=True, repr=False)
class ScoringEstimate:
    """What the requests of a scoring would cost. Nothing was sent and nothing was written.

    Examples:
        >>> import batchrun
        >>> from pathlib import Path
        >>> _ = Path("judge.toml").write_text('model = "m"\\nscript = "verdicts.toml"\\n')
        >>> _ = Path("verdicts.toml").write_text('[default]\\nreply = "GRADE: C"\\n')
        >>> rows = [{"question": "1 + 1?", "truth": "2", "response": "It is 2."}]
        >>> grading = {"scorer": "model-graded", "target": "truth", "grader": "judge.toml"}
        >>> estimate = batchrun.score(rows, **grading, dry_run=True)
        >>> estimate.requests, estimate.to_send, estimate.cost_usd
        (1, 1, 0.0)
    """

    _costs: ScoringCosts
    _problems: Sequence[str] = ()

    @property
    def graders(self) -> Sequence[GradingCost]:
        """The requests of each grader or judge, with their tokens and cost."""
        return self._costs.graders

    @property
    def embeddings(self) -> Sequence[EmbeddingsCost]:
        """The requests of each scorer `cosine`; batchrun has no prices of them."""
        return self._costs.embeddings

    @property
    def problems(self) -> Sequence[str]:
        """What would stop the scoring, such as a missing key."""
        return list(map(in_python, self._problems))

    @property
    def requests(self) -> int:
        """Requests of all graders and scorers."""
        return sum(each.cost.requests for each in self.graders) + sum(each.requests for each in self.embeddings)

    @property
    def to_send(self) -> int:
        """Requests without a reply from an earlier scoring."""
        return sum(each.cost.to_ask for each in self.graders) + sum(each.requests for each in self.embeddings)

    @property
    def prompt_tokens(self) -> int:
        """Estimated tokens of the graders' prompts to send."""
        return sum(each.cost.prompt_tokens for each in self.graders)

    @property
    def completion_tokens(self) -> int:
        """Estimated tokens of all verdicts."""
        return sum(each.cost.completion_tokens for each in self.graders)

    @property
    def cost_usd(self) -> float | None:
        """Estimated cost in US dollars; None if a price is unknown, such as that of embeddings."""
        return self._costs.cost_usd

    def facts(self) -> ScoringCostFacts:
        """Return everything, as `batchrun score --dry-run --json` prints it."""
        return self._costs.facts()

    def summary(self) -> str:
        """Return the estimate as text, as `batchrun score --dry-run` prints it."""
        return "\n".join(self._lines())

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return f"<ScoringEstimate: {self._lines()[0]}>"

    def _repr_html_(self) -> str:
        return f"<p><strong>Dry run</strong></p>{lines_html(self._lines())}"

    def _lines(self) -> list[str]:
        return [in_python(line) for line in (*self._costs.lines(), *self._problems)]


def request_cost(environment: Environment) -> CostOf:
    """Return the function that estimates the requests of a grader, as `run --dry-run` estimates a batch."""
    count = o200k_counter()

    def cost(job: Job, requests: Path, output: Path) -> RequestCost:
        with dry_plan(job, requests, environment, output) as plan:
            found = dry_run(plan, count=count)
        details = [found.rule, *found.problems]
        if found.cost is None and found.embedded:
            found.cost = Decimal(0)
            details.append(f"{FREE}, the embedded server answers")
        elif found.cost is None:
            details += [no_price_text(model, found.place) for model in found.unpriced]
        else:
            details += [price.line() for price in found.prices.values() if price is not None]
        cost_usd = None if found.cost is None else float(found.cost)
        return RequestCost(
            found.rows, found.to_ask, found.prompt_tokens, found.completion_tokens, cost_usd, tuple(details)
        )

    return cost
