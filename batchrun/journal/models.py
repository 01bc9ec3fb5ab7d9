"""The models that answered the rows of a journal, and why the fallback model was asked."""

from __future__ import annotations

from typing import TypedDict

from batchrun.journal.exchanges import FALLBACK
from batchrun.journal.part import JournalPart

__all__ = ["ModelFacts", "Models"]


class ModelFacts(TypedDict):
    """Rows, tokens and US dollars of the rows that a model answered; None if no row's cost is known.

    The tokens and the cost of a row are those of all its runs, also of those of the first model if this one is the
    fallback model. The cost does not contain that of `unpriced` rows, which have tokens or an answer.
    """

    rows: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    unpriced: int


class Models(JournalPart):
    """The outcomes by model."""

    def totals(self) -> dict[str, ModelFacts]:
        """Return model → its rows, the most frequent first; without rows that no model answered."""
        rows = self._read(
            "SELECT model, count(*) AS number, total(prompt_tokens), total(completion_tokens), sum(cost_usd), "
            "total(cost_usd IS NULL AND (total_tokens IS NOT NULL OR status IN ('completed', 'incomplete'))) "
            "FROM outcomes WHERE model IS NOT NULL GROUP BY model ORDER BY number DESC, model"
        )
        return {
            model: {
                "rows": number,
                "prompt_tokens": int(prompt_tokens),
                "completion_tokens": int(completion_tokens),
                "cost_usd": cost_usd,
                "unpriced": int(unpriced),
            }
            for model, number, prompt_tokens, completion_tokens, cost_usd, unpriced in rows
        }

    def fallbacks(self) -> dict[str, int]:
        """Return why the fallback model was asked → rows whose outcome is its own, the most frequent first."""
        return dict(
            self._read(
                "SELECT exchanges.reason, count(*) AS number FROM exchanges JOIN outcomes USING (row_key) "
                "WHERE exchanges.fingerprint = outcomes.fingerprint || ? AND exchanges.attempt < outcomes.attempts "
                "GROUP BY exchanges.reason ORDER BY number DESC, exchanges.reason",
                (FALLBACK,),
            )
        )
