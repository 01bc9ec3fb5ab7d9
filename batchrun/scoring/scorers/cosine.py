"""CosineScorer: how a scorer of embeddings is written; `grade` gives it a service to ask."""

from __future__ import annotations

from dataclasses import dataclass

from batchrun.errors import InputError
from batchrun.scoring.scorers.base import Sample, Score, Scorer

__all__ = ["CosineScorer"]


@dataclass(frozen=True, slots=True)
class CosineScorer(Scorer):
    """A placeholder: `grade` puts an `EmbeddingsScorer` in its place.

    Attributes:
        model: name of the embedding model.
        url: base URL of the OpenAI-compatible server; None for the one of the environment.
        threshold: cosine from which the score is 1, and below which it is 0; None gives the cosine itself.
    """

    model: str
    url: str | None = None
    threshold: float | None = None

    def score(self, sample: Sample) -> Score:  # noqa: ARG002 - the interface's signature
        raise InputError(
            "--scorer cosine: works in batchrun score, compare and run only; elsewhere use the scored table and "
            "--scorer column:score_cosine"
        )
