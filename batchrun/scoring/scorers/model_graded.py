"""ModelGradedScorer: the placeholder for a scorer whose graders have not been asked yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from batchrun.errors import InputError
from batchrun.scoring.scorers.base import Sample, Score, Scorer

__all__ = ["ModelGradedScorer"]


class ModelGradedScorer(Scorer):
    """A placeholder: `grade` asks its graders and puts a `GradedScorer` in its place."""

    needs_target = False
    gives_reasons = True

    def __init__(self, files: Sequence[Path] = (), rubric: str | None = None) -> None:
        """
        Args:
            files: job files of the scorer's own graders.
            rubric: name of a ready rubric, for graders given by a model's name; None for theirs.
        """
        self.files = tuple(files)
        self.rubric = rubric

    def score(self, sample: Sample) -> Score:  # noqa: ARG002 - the interface's signature
        raise InputError(
            "--scorer model-graded: works in batchrun score, compare and run only; elsewhere use the scored table and "
            "--scorer column:score_model-graded"
        )
