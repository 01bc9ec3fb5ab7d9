"""GradedScorer: the scorer that reads its scores from the graders' verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from batchrun.scoring.grading.grader import Grader
from batchrun.scoring.grading.grader_report import GraderReport
from batchrun.scoring.grading.requests import request_id, unaskable
from batchrun.scoring.grading.rubric import Rubric, RubricError
from batchrun.scoring.grading.verdicts import combined
from batchrun.scoring.score_options import Vote
from batchrun.scoring.scorers.base import Sample, Score, Scorer

__all__ = ["GradedScorer", "GraderVerdict", "GraderVerdicts"]


@dataclass(frozen=True, slots=True)
class GraderVerdict:
    """One reply of a grader.

    Attributes:
        value: from 0 to 1; None if the reply has no readable verdict.
        read: the part of the reply that was read, after the grader's name if there are several; None if there is none.
        reason: why the grader decided so, in its words; after its name if there are several verdicts.
        problem: why there is no value; the same text for the same problem, so that rows can be counted by it.
    """

    value: float | None
    read: str | None
    reason: str
    problem: str


@dataclass(frozen=True, slots=True)
class GraderVerdicts:
    """A grader with its verdicts on a table.

    Attributes:
        by_request: `request_id` → verdicts, one per vote.
        report: counts and costs.
    """

    grader: Grader
    rubric: Rubric
    by_request: Mapping[str, Sequence[GraderVerdict]]
    report: GraderReport

    def of(self, sample: Sample) -> Sequence[GraderVerdict]:
        """Return the verdicts on one row."""
        try:
            request = request_id(self.grader.job, self.rubric.render(sample))
        except RubricError as exc:
            return [GraderVerdict(None, None, "", str(exc))]
        return self.by_request.get(request) or [
            GraderVerdict(None, None, "", f"grader {self.grader.name} was not asked")
        ]


@dataclass(frozen=True, slots=True)
class GradedScorer(Scorer):
    """Graders that have graded a table: the score of a row combines their verdicts.

    Attributes:
        panel: the verdicts of each grader.
        vote: how several verdicts are combined.
    """

    needs_target: ClassVar[bool] = False
    gives_reasons: ClassVar[bool] = True
    panel: Sequence[GraderVerdicts]
    vote: Vote

    def score(self, sample: Sample) -> Score:
        needs_target = any(each.rubric.needs_target for each in self.panel)
        if (score := unaskable(sample, needs_target=needs_target)) is not None:
            return score
        verdicts: list[GraderVerdict] = []
        for each in self.panel:
            verdicts += each.of(sample)
        values = [verdict.value for verdict in verdicts if verdict.value is not None]
        value = combined(values, self.vote)
        read = "; ".join(verdict.read for verdict in verdicts if verdict.read is not None) or None
        if value is not None:
            return Score(value, "\n\n".join(filter(None, (verdict.reason for verdict in verdicts))), read)
        if values:
            return Score(None, "the vote is a tie", read)
        return Score(None, verdicts[0].problem if len(verdicts) == 1 else "no readable verdict", read)

    def value_of_label(self, label: str) -> float | None:
        """Return the value of a label that is a grade of the rubric, or a word for right or wrong."""
        reader = self.panel[0].grader.reader
        value = reader.value(label)
        if value is not None or reader.scale is None:
            return value if value is not None else super(GradedScorer, self).value_of_label(label)
        try:
            float(label)
        except ValueError:
            return super(GradedScorer, self).value_of_label(label)
        return None  # a number outside the scale

    @property
    def reports(self) -> list[GraderReport]:
        """One report per grader."""
        return [each.report for each in self.panel]
