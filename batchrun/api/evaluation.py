"""Scores and comparisons from Python, as `batchrun score` and `batchrun compare` make them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Unpack, overload

from batchrun.api.frame_index import INDEX_COLUMN, judged_by_index, named_by_index, with_index_column
from batchrun.api.judged import JudgedComparison
from batchrun.api.parameters import CallersWords
from batchrun.api.scores import ScoreComparison, Scores
from batchrun.api.scoring_call import ScorerGiven, options_given, scoring_call
from batchrun.api.scoring_estimate import ScoringEstimate
from batchrun.api.scoring_signatures import CompareKeywords, JudgeKeywords, ScoreKeywords
from batchrun.errors import InputError
from batchrun.job.environment import ApiKey
from batchrun.scoring.evaluate import check_baseline, check_comparison, comparison_of
from batchrun.scoring.pairing import DETECTABLE
from batchrun.wording import shortened

if TYPE_CHECKING:
    import pandas

    from batchrun.api.data import Data
    from batchrun.api.scoring_call import ScoredRows

__all__ = ["compare", "score"]


@overload
def score(
    data: Data, scorer: ScorerGiven, *, dry_run: Literal[True], **options: Unpack[ScoreKeywords]
) -> ScoringEstimate: ...
@overload
def score(
    data: Data, scorer: ScorerGiven, *, dry_run: Literal[False] = False, **options: Unpack[ScoreKeywords]
) -> Scores: ...
def score(
    data: Data,
    scorer: ScorerGiven,
    *,
    target: str | None = None,
    answer: str | None = None,
    by: str | Sequence[str] = (),
    key: str | None = None,
    epochs_column: str | None = None,
    cluster: str | None = None,
    labels: str | None = None,
    failed_as: Literal["skip", "wrong"] = "skip",
    fail_under: float | None = None,
    no_worse_than: Data | None = None,
    margin: float | None = None,
    bar_on: Literal["value", "interval"] = "value",
    min_scored: float | None = None,
    grader: str | Path | Sequence[str | Path] = (),
    grader_model: str | Sequence[str] = (),
    vote: Literal["majority", "mean"] | None = None,
    question: str | None = None,
    rubric: Literal["correctness", "factuality", "closed-qa", "faithfulness"] | None = None,
    context: str | None = None,
    output: str | Path | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    api_key: ApiKey | None = None,
    progress: bool | None = None,
    dry_run: bool = False,
) -> Scores | ScoringEstimate:
    """Score the answers of a batch, or of any table.

    Args:
        data: a pandas, polars or Arrow table, a list of dicts, or the path of a table, such as the output of a batch.
        scorer: as on the command line: exact, ne, includes, starts-with, contains-all, contains-any, regex:PATTERN,
            numeric, choice, json, fuzzy, f1, rouge1 to rouge4, rougeL, bleu, cosine, math, python:FILE.py:function,
            column:COLUMN or model-graded, with options after a colon; or a function of
            the answer and the target, and of the row as a dict if it takes three arguments, which returns a bool, a
            number from 0 to 1, or None for a row that cannot be judged. Several are given as a list, or as a dict by
            their names.
        target: column with the expected answer, or a field of its objects: answers.text.
        answer: column with the answer. Default: response.
        by: columns to break the scores down by.
        key: column with row ids; rows with the same id are epochs of one row.
        epochs_column: column with the epoch of a row, its repetition. Default: epoch, if the table has it.
        cluster: column with the cluster of a row; rows of one cluster are not independent.
        labels: column with hand labels, right or wrong, to compare the scores with; `rating` for the ratings that
            `batchrun view` has kept next to a table that is a file.
        failed_as: how failed rows count: not at all (`skip`) or as 0 (`wrong`); they are reported in either case.
        fail_under: lowest accepted mean of each scorer; `Scores.passed` and `Scores.bars` have the result.
        no_worse_than: another table, whose scores are the baseline; needs `key`.
        margin: accepted loss against that baseline. Default: 0.
        bar_on: the figure that must reach a bar: the mean, or the lower end of its 95 % confidence interval.
        min_scored: lowest share of the rows with a target that must have a score; with a lower share every bar fails.
            Default: 0.95.
        grader: for model-graded scorers: job files of graders, whose prompt is the rubric.
        grader_model: for model-graded scorers: models that grade by the default rubric.
        vote: how several verdicts are combined. Default: mean for grades on a scale, else majority.
        question: question shown to graders: a column or a template. Default: the column prompt, question, messages or
            conversations.
        rubric: rubric of `grader_model`. Default: correctness, which compares the answer with the target.
        context: column with the texts that an answer must be faithful to. Default: context.
        output: file for the scored table. Default: none is written.
        encoding, delimiter: of a text table.
        api_key: key of the graders' service. Default: OPENAI_API_KEY from the environment.
        progress: whether the batch of a grader is shown, as for `run`.
        dry_run: return a `ScoringEstimate` of what the graders would cost, in place of `Scores`. Nothing is sent, and
            no key is needed.

    Verdicts of graders are kept next to a table that is a file, or next to `output`: nothing is graded twice. Without
    either, they are deleted after the call.

    Raises:
        InputError: the table, a scorer, a column or an option cannot be used.
        GradingStopped: the batch of a grader ended early.
        OutputError: the output cannot be written.

    Examples:
        >>> import batchrun
        >>> answers = batchrun.run(["What is 2 + 2?", "What is 7 * 6?"], model="tutor")
        >>> answers["truth"] = [4, 43]
        >>> print(batchrun.score(answers, "numeric", target="truth"))
        numeric  50.0 %  (9.5 % to 90.5 %)  of 2 rows

        >>> def short(answer, target):
        ...     return len(answer) < 20
        >>> batchrun.score(answers, short).mean
        1.0
    """
    with CallersWords():
        _check_switch(dry_run)
        given = options_given(
            target=target,
            answer=answer,
            by=by,
            key=key,
            epochs_column=epochs_column,
            cluster=cluster,
            labels=labels,
            failed_as=failed_as,
            fail_under=fail_under,
            no_worse_than=None if no_worse_than is None else "no_worse_than",
            margin=margin,
            bar_on=bar_on,
            min_scored=min_scored,
            grader=grader,
            grader_model=grader_model,
            vote=vote,
            question=question,
            rubric=rubric,
            context=context,
            output=output,
            encoding=encoding,
            delimiter=delimiter,
        )
        with scoring_call("score", scorer, given, api_key=api_key, progress=progress) as call:
            check_baseline(call.options.no_worse_than, call.spec.columns)
            if dry_run:
                return call.estimated(data, no_worse_than, call.options.output)
            scored = call.scored(data, for_comparison=no_worse_than is not None, output=call.options.output)
            return call.scores(scored, no_worse_than, call.options.output)


@overload
def compare(*tables: Data, scorer: ScorerGiven, **options: Unpack[CompareKeywords]) -> ScoreComparison: ...
@overload
def compare(
    *tables: Data, judge: str | Path, dry_run: Literal[True], **options: Unpack[JudgeKeywords]
) -> ScoringEstimate: ...
@overload
def compare(
    *tables: Data, judge: str | Path, dry_run: Literal[False] = False, **options: Unpack[JudgeKeywords]
) -> JudgedComparison: ...
def compare(
    *tables: Data,
    scorer: ScorerGiven | None = None,
    judge: str | Path | None = None,
    key: str | None = None,
    target: str | None = None,
    answer: str | None = None,
    by: str | Sequence[str] = (),
    split: str | None = None,
    baseline: str | None = None,
    ignore: str | Sequence[str] = (),
    names: Sequence[str] | None = None,
    epochs_column: str | None = None,
    cluster: str | None = None,
    failed_as: Literal["skip", "wrong"] = "skip",
    detect: float | Sequence[float] = DETECTABLE,
    grader: str | Path | Sequence[str | Path] = (),
    grader_model: str | Sequence[str] = (),
    vote: Literal["majority", "mean"] | None = None,
    question: str | None = None,
    rubric: Literal["correctness", "factuality", "closed-qa", "faithfulness"] | None = None,
    context: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    api_key: ApiKey | None = None,
    progress: bool | None = None,
    dry_run: bool = False,
) -> ScoreComparison | JudgedComparison | ScoringEstimate:
    """Compare the scores of tables row by row, or of the parts of one table; or have a judge prefer one of two answers.

    Args:
        tables: two or more tables, as for `score`; or one table and `split`.
        scorer: the scorers, as for `score`.
        judge: in place of `scorer`: a model, or a grader's job file, that prefers one of two answers to a row. It is
            asked about every pair in both orders. The result is a `JudgedComparison`.
        key: column with row ids, by which the tables are paired. Default: the index of pandas frames, if it is the same
            in all of them (the default index only if a column, such as the prompt, is the same too). With `split` it is
            optional; rows are then named by the index of a frame.
        target: column with the expected answer.
        answer: column with the answer. Default: response.
        split: column whose values split one table into parts to compare: `model` for a batch with several models.
        by: columns to break the differences down by.
        baseline: with `split`: the value that the others are compared with. Default: every pair is compared.
        ignore: columns that may differ between the rows of a pair, such as a prompt's wording.
        names: names of the tables. Default: the path of a file; A, B, C … for tables in memory.
        epochs_column, cluster, failed_as: as for `score`.
        detect: differences for which the required number of rows is computed.
        grader, grader_model, vote, question, rubric, context, encoding, delimiter, api_key, progress: as for `score`.
        dry_run: with `judge`: return a `ScoringEstimate` of what it would cost.

    Raises:
        InputError: a table, a scorer, a column or an option cannot be used, or two tables share no row.
        GradingStopped: the batch of a grader ended early.

    Examples:
        >>> import batchrun
        >>> questions = [{"id": n, "question": f"{n} + {n}", "truth": 2 * n} for n in range(8)]
        >>> answers = batchrun.run(questions, prompt="{{ question }}", key="id", model="tutor")
        >>> guesses = answers.assign(response="4")
        >>> comparison = batchrun.compare(guesses, answers, scorer="numeric", key="id", target="truth")
        >>> comparison.difference, comparison.p_value
        (0.875, 0.015625)
    """
    with CallersWords():
        _check_judge(scorer, judge, has_sizes=detect is not DETECTABLE, dry_run=dry_run)
        indexed = with_index_column(tables) if key is None and split is None else None
        given = options_given(
            target=target,
            answer=answer,
            key=INDEX_COLUMN if indexed else key,
            by=by,
            split=split,
            ignore=ignore,
            epochs_column=epochs_column,
            cluster=cluster,
            failed_as=failed_as,
            grader=grader,
            grader_model=grader_model,
            vote=vote,
            question=question,
            rubric=rubric,
            context=context,
            encoding=encoding,
            delimiter=delimiter,
        )
        sizes = _sizes(detect)
        labels = _labels(tables, names)
        with scoring_call("compare", scorer or (), given, api_key=api_key, progress=progress) as call:
            check_comparison(labels, call.spec.columns, baseline)
            given_tables = zip(indexed or tables, labels, strict=True)
            if judge is not None:
                judged = call.judged(str(judge), given_tables, baseline, dry_run=dry_run)
                if isinstance(judged, ScoringEstimate):
                    return judged
                is_unnamed = key is None and split is not None
                return JudgedComparison(judged_by_index(judged, tables[0]) if is_unnamed else judged)
            scored = [call.scored(data, label, for_comparison=True) for data, label in given_tables]
            pairs = [(each.table, each.tally) for each in scored]
            found = comparison_of(pairs, call.spec.failed_as, detectable=sizes, baseline=baseline)
            if key is None and split is not None:
                found = named_by_index(found, tables[0])
            return ScoreComparison(found, _joined(scored).drop(columns=INDEX_COLUMN if indexed else []))


def _check_switch(dry_run: object) -> None:
    if not isinstance(dry_run, bool):
        raise InputError(f"dry_run: expected True or False, got {shortened(dry_run)}")


def _check_judge(scorer: object, judge: object, *, has_sizes: bool, dry_run: object) -> None:
    """Check that `compare` gets scorers or a judge, and nothing that has no effect."""
    _check_switch(dry_run)
    if judge is None:
        if scorer is None:
            raise InputError("compare requires scorer or judge")
        if dry_run:
            raise InputError("dry_run prices a judge alone: give judge, and no scorer")
        return
    if not isinstance(judge, str | Path) or not str(judge):
        raise InputError(f"judge: expected the name of a model, or the path of a job file, got {shortened(judge)}")
    if scorer is not None or has_sizes:
        unused = "scorer" if scorer is not None else "detect"
        raise InputError(f"judge compares the answers themselves: {unused} has no effect")


def _sizes(detect: float | Sequence[float]) -> Sequence[float]:
    sizes = [detect] if isinstance(detect, int | float) else list(detect)
    for size in sizes:
        if not 0 < size <= 1:
            raise InputError(f"detect: expected numbers above 0 and at most 1, got {size!r}")
    return sizes


def _labels(tables: Sequence[object], names: Sequence[str] | None) -> Sequence[str]:
    if names is None:
        return [str(each) if isinstance(each, str | Path) else _letter(place) for place, each in enumerate(tables)]
    if isinstance(names, str) or len(names) != len(tables):
        raise InputError(f"names: expected a list with one name for each of {len(tables)} tables, got {names!r}")
    return names


def _letter(place: int) -> str:
    return chr(ord("A") + place) if place < 26 else f"table {place + 1}"


def _joined(scored: Sequence[ScoredRows]) -> pandas.DataFrame:
    import pandas as pd

    if len(scored) == 1:
        return scored[0].frame
    return pd.concat([each.frame for each in scored], keys=[each.table.source.name for each in scored], names=["table"])
