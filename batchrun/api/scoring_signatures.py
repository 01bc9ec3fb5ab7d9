"""The keyword arguments of `score` and `compare` for type checkers, so that each of their overloads is one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

from batchrun.job.environment import ApiKey

if TYPE_CHECKING:
    from batchrun.api.data import Data

__all__ = ["CompareKeywords", "JudgeKeywords", "ScoreKeywords"]


class _TableKeywords(TypedDict, total=False):
    target: str | None
    answer: str | None
    key: str | None
    epochs_column: str | None
    question: str | None
    encoding: str | None
    delimiter: str | None
    api_key: ApiKey | None
    progress: bool | None


class _ScorerKeywords(_TableKeywords, total=False):
    by: str | Sequence[str]
    cluster: str | None
    failed_as: Literal["skip", "wrong"]
    grader: str | Path | Sequence[str | Path]
    grader_model: str | Sequence[str]
    vote: Literal["majority", "mean"] | None
    rubric: Literal["correctness", "factuality", "closed-qa", "faithfulness"] | None
    context: str | None


class ScoreKeywords(_ScorerKeywords, total=False):
    """The keyword arguments of `score` without the one that decides what is returned."""

    labels: str | None
    fail_under: float | None
    no_worse_than: Data | None
    margin: float | None
    bar_on: Literal["value", "interval"]
    min_scored: float | None
    output: str | Path | None


class JudgeKeywords(_TableKeywords, total=False):
    """The keyword arguments of `compare` that go with a judge."""

    split: str | None
    baseline: str | None
    names: Sequence[str] | None


class CompareKeywords(JudgeKeywords, _ScorerKeywords, total=False):
    """The keyword arguments of `compare` that go with scorers."""

    ignore: str | Sequence[str]
    detect: float | Sequence[float]
