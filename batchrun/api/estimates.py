"""What `run` returns with `dry_run=True` and with `pilot=N`: what the whole table would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batchrun.api.notebook import lines_html
from batchrun.api.parameters import in_python
from batchrun.batch.run_summary import Summary
from batchrun.estimate.dry_run import DryRun, DryRunFacts, dry_run_facts, dry_run_lines
from batchrun.estimate.pilot import Pilot, PilotFacts, pilot_facts, pilot_lines
from batchrun.estimate.sample import Total

__all__ = ["DryRunEstimate", "PilotEstimate"]


@dataclass(frozen=True, slots=True, repr=False)
class DryRunEstimate:
    """What a batch would take. Nothing was sent and nothing was written.

    Examples:
        >>> import batchrun
        >>> estimate = batchrun.run(["2 + 2", "7 * 6"], model="tutor", dry_run=True)
        >>> estimate.rows, estimate.to_send, estimate.problems
        (2, 2, [])
    """

    _dry_run: DryRun

    @property
    def rows(self) -> int:
        """Rows of the table, times the combinations."""
        return self._dry_run.rows

    @property
    def to_send(self) -> int:
        """Rows that would be sent."""
        return self._dry_run.to_ask

    @property
    def finished_before(self) -> int:
        """Rows that an earlier run of this batch has answered."""
        return self._dry_run.finished_before

    @property
    def from_cache(self) -> int:
        """Rows whose answer is in the `cache`, so that they would not be sent."""
        return self._dry_run.from_cache

    @property
    def at_service(self) -> int:
        """Rows whose only request is at the service's Batch API, so that they would not be sent."""
        return self._dry_run.at_service

    @property
    def prompt_tokens(self) -> int:
        """Estimated tokens of all prompts to send."""
        return self._dry_run.prompt_tokens

    @property
    def completion_tokens(self) -> int:
        """Estimated tokens of all answers."""
        return self._dry_run.completion_tokens

    @property
    def cost_usd(self) -> float | None:
        """Estimated cost in US dollars; None if a price is unknown."""
        return None if self._dry_run.cost is None else float(self._dry_run.cost)

    @property
    def time_s(self) -> float:
        """Estimated time in seconds."""
        return self._dry_run.time.seconds

    @property
    def answered_by(self) -> str:
        """Model, service and protocol."""
        return self._dry_run.answered_by

    @property
    def problems(self) -> Sequence[str]:
        """What would stop the batch before its first row, and the first rows whose prompt cannot be made."""
        return [in_python(line) for line in (*self._dry_run.problems, *self._dry_run.examples)]

    def facts(self) -> DryRunFacts:
        """Return everything, as `batchrun run --dry-run --json` prints it."""
        return dry_run_facts(self._dry_run)

    def summary(self) -> str:
        """Return the estimate as text, as `batchrun run --dry-run` prints it."""
        return "\n".join(self._lines())

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return f"<DryRunEstimate: {self._lines()[0]}>"

    def _repr_html_(self) -> str:
        return f"<p><strong>Dry run</strong></p>{lines_html(self._lines())}"

    def _lines(self) -> list[str]:
        return [in_python(line) for line in dry_run_lines(self._dry_run)]


@dataclass(frozen=True, slots=True, repr=False)
class PilotEstimate:
    """What a whole table would take, from random rows of it that were run. Their answers belong to the batch: the same
    call without `pilot` runs the other rows.

    Attributes:
        output: the output that the batch will have; the answers of the pilot are in the journal next to it.

    Examples:
        >>> import batchrun
        >>> questions = [f"{n} + {n}" for n in range(100)]
        >>> estimate = batchrun.run(questions, model="tutor", output="sums.csv", pilot=20)
        >>> estimate.rows, estimate.sampled, estimate.prompt_tokens.estimate > 0
        (100, 20, True)
    """

    _pilot: Pilot
    output: Path

    @property
    def rows(self) -> int:
        """Rows of the table, times the combinations."""
        return self._pilot.rows

    @property
    def sampled(self) -> int:
        """Rows in the sample."""
        return self._pilot.sampled

    @property
    def batch(self) -> Summary:
        """How the rows of the sample ended."""
        return self._pilot.summary

    @property
    def prompt_tokens(self) -> Total | None:
        """Tokens of all prompts (`estimate`, `low`, `high` at 95 %); None if no usage is known."""
        return self._pilot.prompt_tokens

    @property
    def completion_tokens(self) -> Total | None:
        """Tokens of all answers, with an interval; None if no usage is known."""
        return self._pilot.completion_tokens

    @property
    def cost_usd(self) -> Total | None:
        """Cost of the whole table in US dollars, with an interval; None if the price of a sampled row is unknown."""
        return self._pilot.cost_usd

    @property
    def spent_usd(self) -> float | None:
        """Cost of the sample in US dollars; None if it is unknown."""
        return self._pilot.spent_usd

    @property
    def time_s(self) -> float | None:
        """Time for the other rows in seconds; None if no row of the sample was sent."""
        return None if self._pilot.time is None else self._pilot.time.seconds

    def facts(self) -> PilotFacts:
        """Return everything, as `batchrun run --pilot N --json` prints it."""
        return pilot_facts(self._pilot)

    def summary(self) -> str:
        """Return the estimate as text, as `batchrun run --pilot N` prints it."""
        return "\n".join(self._lines())

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return f"<PilotEstimate: {self._lines()[0]}>"

    def _repr_html_(self) -> str:
        return f"<p><strong>Pilot</strong></p>{lines_html(self._lines())}"

    def _lines(self) -> list[str]:
        return [in_python(line) for line in pilot_lines(self._pilot)]
