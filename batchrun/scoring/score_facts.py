"""The JSON of scores and comparisons, as `--json` prints it and the report page reads it."""

from __future__ import annotations

from typing import NotRequired, TypedDict

__all__ = [
    "BarFacts",
    "ComparisonFacts",
    "ContenderFacts",
    "CorrectedFacts",
    "EmbeddingsCostFacts",
    "EpochsFacts",
    "EstimateFacts",
    "EvaluationFacts",
    "FiguresFacts",
    "GraderFacts",
    "GradingCostFacts",
    "JudgedComparisonFacts",
    "JudgedFacts",
    "LabelFacts",
    "MatrixFacts",
    "PairingFacts",
    "RowsNeededFacts",
    "ScoreFacts",
    "ScoringCostFacts",
    "VarianceFacts",
]


class EstimateFacts(TypedDict):
    """A mean and its confidence interval; see `batchrun.scoring.statistics.Estimate`."""

    n: int
    mean: float | None
    low: float | None
    high: float | None
    standard_error: float | None
    interval: str
    clusters: int | None
    note: str | None


class EpochsFacts(TypedDict):
    """Figures over repeated rows; see `batchrun.scoring.summary.Epochs`."""

    keys: int
    rows: int
    fewest: int
    most: int
    pass_at_k: dict[str, EstimateFacts]
    pass_hat_k: dict[str, EstimateFacts]


class VarianceFacts(TypedDict):
    """The variance of scores over repeated rows; see `batchrun.scoring.variance.VarianceSplit`."""

    between: float
    within: float
    share_between: float
    another_epoch: float
    more_rows: float


class FiguresFacts(EstimateFacts):
    """Figures of one scorer over some rows; see `batchrun.scoring.summary.Figures`."""

    rows: int
    failed: int
    failed_without_target: int
    unfinished: int
    unjudged: int
    skipped: int
    cut_short: int
    expected: int
    missing: dict[str, int]
    epochs: NotRequired[EpochsFacts]
    variance: NotRequired[VarianceFacts]


class ScoreFacts(FiguresFacts):
    """Figures of one scorer, overall and by group; see `batchrun.scoring.summary.ScoreSummary`."""

    scorer: str
    failed_as: str
    unjudged_reasons: dict[str, int]
    groups: dict[str, dict[str, FiguresFacts]]


class BarFacts(TypedDict):
    """A bar and its result; see `batchrun.scoring.bars.Bar`."""

    bar: str
    passed: bool
    found: str


class GraderFacts(TypedDict):
    """The work of a grader; see `batchrun.scoring.grading.grader_report.GraderReport`."""

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
    table: str | None


class JudgedFacts(TypedDict):
    """Two tables that a judge has compared; see `batchrun.scoring.pairwise.preferences.Preferences`."""

    first: str
    second: str
    wins: int
    ties: int
    losses: int
    win_rate: EstimateFacts
    p_value: float | None
    flipped: EstimateFacts
    shown_first: EstimateFacts
    longer: EstimateFacts
    better: list[str]
    worse: list[str]
    unjudged_reasons: dict[str, int]
    unanswered: int
    unshared: int
    judge: GraderFacts


class JudgedComparisonFacts(TypedDict):
    """All results of a judge."""

    judged: list[JudgedFacts]


class GradingCostFacts(TypedDict):
    """What it would take to ask a grader; see `batchrun.scoring.grading.grading_cost.GradingCost`."""

    grader: str
    model: str | None
    table: str
    requests: int
    to_ask: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None


class EmbeddingsCostFacts(TypedDict):
    """The requests of a scorer of embeddings; see `batchrun.scoring.grading.grading_cost.EmbeddingsCost`."""

    scorer: str
    model: str
    table: str
    requests: int
    texts: int


class ScoringCostFacts(TypedDict):
    """What it would take to score tables; see `batchrun.scoring.grading.grading_cost.ScoringCosts`."""

    graders: list[GradingCostFacts]
    embeddings: list[EmbeddingsCostFacts]


class CorrectedFacts(TypedDict):
    """A mean corrected for a scorer's errors; see `batchrun.scoring.labels.corrected.Corrected`."""

    mean: float
    low: float
    high: float
    method: str
    rows: int


class LabelFacts(TypedDict):
    """What hand labels say about a scorer; see `batchrun.scoring.labels.label_report.LabelReport`."""

    scorer: str
    labels: str
    labelled: int
    outdated: int
    agreement: EstimateFacts | None
    kappa: float | None
    kappa_low: float | None
    kappa_high: float | None
    kappa_weights: str
    confusion: list[dict[str, float]]
    by_hand: EstimateFacts
    corrected: CorrectedFacts | None


class EvaluationFacts(TypedDict):
    """The result of `batchrun score`."""

    table: str
    output: str | None
    scores: list[ScoreFacts]
    bars: list[BarFacts]
    incomplete: int
    graders: list[GraderFacts]
    labels: list[LabelFacts]
    exit_code: int


class RowsNeededFacts(TypedDict):
    """The rows that show a difference; see `batchrun.scoring.power.RowsNeeded`."""

    rows: int
    low: int | None
    high: int | None


class PairingFacts(TypedDict):
    """Two tables compared by one scorer; see `batchrun.scoring.comparison.Pairing`."""

    first: str
    second: str
    scorer: str
    pairs: int
    expected: int
    unpaired: int
    means: tuple[float, float] | None
    difference: EstimateFacts
    test: str
    p_value: float | None
    corrected_p: float | None
    correlation: float | None
    better: list[str]
    worse: list[str]
    rows_needed: dict[str, RowsNeededFacts]
    detectable: float | None
    groups: dict[str, dict[str, PairingFacts]]
    better_rows: NotRequired[list[int]]
    worse_rows: NotRequired[list[int]]
    better_first: NotRequired[list[int]]
    worse_first: NotRequired[list[int]]


class ContenderFacts(TypedDict):
    """One table of a comparison; see `batchrun.scoring.comparison.Contender`."""

    table: str
    scores: list[ScoreFacts]
    rows: int
    cost_usd: float | None
    rows_with_cost: int
    median_duration_s: float | None
    p95_duration_s: float | None
    total_tokens: float | None


class MatrixFacts(TypedDict):
    """The differences of each pair of several tables; see `batchrun.scoring.matrix.Matrix`."""

    scorer: str
    tables: list[str]
    differences: list[list[float | None]]
    corrected_p: list[list[float | None]]


class ComparisonFacts(TypedDict):
    """The result of `batchrun compare`; see `batchrun.scoring.comparison.Comparison`."""

    split: str | None
    tables: list[ContenderFacts]
    pairings: list[PairingFacts]
    matrices: list[MatrixFacts]
    tests: int
    group_tests: int
    warnings: list[str]
