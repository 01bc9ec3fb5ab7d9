"""The JSON of a report page: its figures, its batch, and the news of a live page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NotRequired, TypedDict

from batchrun.records import JsonDict
from batchrun.scoring.score_facts import ComparisonFacts, ScoreFacts

__all__ = [
    "AnswerFacts",
    "BatchFacts",
    "ConfusionFacts",
    "DependenceFacts",
    "DistributionFacts",
    "ErrorFacts",
    "FieldFacts",
    "FieldGroupFacts",
    "HeadFacts",
    "HeadlineFacts",
    "News",
    "NoteFacts",
    "PageData",
    "PageFacts",
    "ScoreBandFacts",
    "ScoreDetailFacts",
    "SessionFacts",
    "TableFigures",
    "page_facts",
]


class HeadlineFacts(TypedDict):
    """Rows by status, tokens, cost and time. None means unknown.

    Attributes:
        unpriced: rows with usage whose cost is unknown.
        models: model that answered → rows.
        busy_s: sum of the sessions' lengths, in seconds.
        started_at, ended_at: begin of the first session and end of the last one, UTC, ISO 8601.
    """

    rows: int
    by_status: dict[str, int]
    failed: int
    prompt_tokens: int
    completion_tokens: int
    tokens_known: bool
    cached_tokens: int
    reasoning_tokens: int
    cost_usd: float | None
    unpriced: int
    models: dict[str, int]
    busy_s: float | None
    started_at: str | None
    ended_at: str | None


class HistogramFacts(TypedDict):
    """The distribution of one measure.

    Attributes:
        p50, p90, p99: quantiles, by linear interpolation.
        bars: [from, to, count]; the value `to` belongs to the next bar, except in the last bar.
        beyond: number of values above the last bar; a few very large values would make the bars too narrow.
    """

    n: int
    mean: float
    min: float
    max: float
    p50: float
    p90: float
    p99: float
    bars: list[list[float | int]]
    beyond: int


class DistributionFacts(HistogramFacts):
    """The distribution of an output column, in its unit."""

    column: str
    unit: str


class FieldGroupFacts(TypedDict):
    """The numbers of a field in the rows with one value of a column."""

    column: str
    label: str
    n: int
    mean: float
    p10: float
    p50: float
    p90: float


class FieldFacts(TypedDict):
    """The figures of a field of the answers.

    Attributes:
        kind: `numbers` have a distribution, `values` are counted one by one, `texts` are too different for that;
            `none` without any value.
        n: rows with a value.
        missing: rows with an answer, but without a value.
        different: number of different values.
        values: [value, rows], the most frequent first, at most 12.
        distribution: of numbers; else None.
        groups: of numbers, by the columns of `--by` and a batch's axes.
    """

    column: str
    kind: Literal["numbers", "values", "texts", "none"]
    n: int
    missing: int
    different: int
    values: list[tuple[str, int]]
    distribution: HistogramFacts | None
    groups: list[FieldGroupFacts]


class ScoreBandFacts(TypedDict):
    """The mean score of the rows whose length or cost is from `least` to `most`, with its 95 % interval.

    Attributes:
        note: why the interval is not exact; None if it is.
    """

    least: float
    most: float
    n: int
    mean: float | None
    low: float | None
    high: float | None
    note: str | None


class DependenceFacts(TypedDict):
    """The score by one measure: `completion_tokens`, `characters` of the answer, or `cost_usd`."""

    measure: str
    bands: list[ScoreBandFacts]


class ConfusionFacts(TypedDict):
    """How often each expected label got each given one.

    Attributes:
        expected: expected labels, sorted.
        given: the expected labels, then others by their frequency.
        counts: for each expected label the rows by given label; then rows with any other label, and rows without a
            label.
    """

    expected: list[str]
    given: list[str]
    counts: list[list[int]]


class ScoreDetailFacts(TypedDict):
    """The scores of one scorer in detail.

    Attributes:
        bars: distribution of the scores; None if all are 0 or 1.
        by: the score by length and by cost, where these differ.
        confusion: None if the scorer does not compare labels.
    """

    scorer: str
    bars: HistogramFacts | None
    by: list[DependenceFacts]
    confusion: ConfusionFacts | None


class SessionFacts(TypedDict):
    """A session: a time in which the batch ran without a long pause. The lists have one entry per bin.

    Attributes:
        started_s, ended_s: begin and end, in seconds since 1970.
        origin_s: begin of the first bin.
        bin_s: width of a bin.
        ended: rows that ended.
        failed: rows that ended without an answer.
        tokens: tokens of the rows that ended.
        tries: attempts that began; None without a journal.
        refusals: attempts that began and met a rate limit; None without a journal.
        cool_downs: (from, until, reason), without overlaps; None if they were not recorded.
    """

    started_s: float
    ended_s: float
    origin_s: float
    bin_s: int
    ended: list[int]
    failed: list[int]
    tokens: list[int]
    tries: list[int] | None
    refusals: list[int] | None
    cool_downs: list[tuple[float, float, str]] | None


class ErrorFacts(TypedDict):
    """A type of error.

    Attributes:
        rows: rows that ended with it.
        cut_short: rows whose answer it cut short.
        tries: attempts that met it; None without a journal.
        example: text of the first error, up to 500 characters.
    """

    error_type: str
    rows: int
    cut_short: int
    tries: int | None
    example: str


class TableFigures(TypedDict):
    """All figures that are computed from the rows."""

    headline: HeadlineFacts
    distributions: list[DistributionFacts]
    sittings: list[SessionFacts]
    errors: list[ErrorFacts]


class AnswerFacts(TypedDict):
    """The figures of the answers themselves.

    Attributes:
        fields: fields of answers that are objects.
        score_details: one per scorer.
    """

    fields: list[FieldFacts]
    score_details: list[ScoreDetailFacts]


class BatchFacts(TypedDict):
    """The batch, from its journal.

    Attributes:
        examples: role and text of each message that is sent before the question of every row.
        limits: options for concurrency and rates; None in old journals.
        spent_usd: cost of all attempts so far, in US dollars; None if unknown.
        from_cache: rows with an answer from a cache.
    """

    batch_id: str
    created_at: str
    running: bool
    input: str | None
    model: Any
    api: Any
    embedded: bool
    base_url: str | None
    prompt: Any
    instructions: Any
    examples: Sequence[tuple[str, str]]
    limits: Any
    spent_usd: float | None
    from_cache: int


class HeadFacts(TypedDict):
    """The table's name and path, and when the page was made."""

    table: str
    path: str
    made_at: str


class PageFacts(HeadFacts, TableFigures, AnswerFacts):
    """Everything on a page except its rows.

    Attributes:
        scores: one per scorer; missing without scorers.
        without_target: scorer → positions of failed rows without the expected answer that it needs; these are in no
            mean, even if failed rows count as 0. Missing without scorers.
        comparison: missing if nothing is compared.
        batch: None without a journal.
        notes: reasons why something is not shown, one sentence each.
    """

    scores: NotRequired[list[ScoreFacts]]
    without_target: NotRequired[dict[str, list[int]]]
    comparison: NotRequired[ComparisonFacts]
    batch: BatchFacts | None
    notes: list[str]


def page_facts(
    head: HeadFacts, figures: TableFigures, answers: AnswerFacts, batch: BatchFacts | None, notes: Sequence[str]
) -> PageFacts:
    """Return the facts of a page without scores and comparison."""
    return {
        "table": head["table"],
        "path": head["path"],
        "made_at": head["made_at"],
        "headline": figures["headline"],
        "distributions": figures["distributions"],
        "sittings": figures["sittings"],
        "errors": figures["errors"],
        "fields": answers["fields"],
        "score_details": answers["score_details"],
        "batch": batch,
        "notes": list(notes),
    }


class NoteFacts(TypedDict):
    """What people noted about the rows.

    Attributes:
        version: counted up whenever any of it changes; 0 on a page that does not change.
        listed: position of a row, its rating, the comment, and whether the note is about an earlier answer.
        lost: number of notes whose row is not in the table.
        problem: why the file of notes cannot be read; None if it can.
    """

    version: int
    listed: list[tuple[int, str, str, bool]]
    lost: int
    problem: str | None


class PageData(TypedDict):
    """The whole page as JSON.

    Attributes:
        row_notes: what people noted about the rows.
        columns: see `batchrun.reporting.rows.RowColumns.facts`.
        shown: number of rows on the page.
        portions: the rows, see `batchrun.reporting.columns_json`.
    """

    facts: PageFacts
    row_notes: NoteFacts
    columns: JsonDict
    shown: int
    portions: list[JsonDict]


class News(TypedDict):
    """Everything that changed since a live page last asked.

    Attributes:
        generation: number of the batch that the journal holds, counted up if it becomes another.
        version: number of changes so far; the page asks for those after it.
        more: whether more rows wait; the page must ask again.
        facts: None while more rows wait.
        row_notes: None while more rows wait, and if the page has this version of them.
        left_out: number of rows that the page does not show.
        gone: positions of rows that the page no longer shows.
        rows: changed rows, packed.
    """

    generation: int
    version: int
    more: bool
    columns: JsonDict
    facts: PageFacts | None
    row_notes: NoteFacts | None
    left_out: int
    gone: list[int]
    rows: JsonDict
