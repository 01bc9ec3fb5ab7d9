"""How an output is scored right after its batch: the flags of `batchrun run`, and the table `[score]` of a job file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from batchrun.errors import InputError
from batchrun.job.option_values import nearest
from batchrun.local_paths import check_local
from batchrun.records import Row
from batchrun.wording import shortened

if TYPE_CHECKING:
    from batchrun.scoring.evaluate import ScoringSpec

__all__ = ["ScoreOptions", "check_question", "make_score_options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOptions:
    """What is to be scored, and held against which bars. Build it with `make_score_options`, which validates.

    Attributes:
        scorer: scorers, see `batchrun.scoring.scorers.registry`.
        target, answer, cluster, by: columns, see `batchrun.scoring.table.Columns`.
        failed_as: what failed rows count as.
        output: where the scored table goes, None for beside the table.
        fail_under, no_worse_than, margin, bar_on: see `batchrun.scoring.evaluate.Bars`.
        junit, markdown: files to write.
        grader: job files of the graders of model-graded scorers.
        grader_model: models that grade by the default rubric.
        vote, question: see `batchrun.scoring.grading.grading.Grading`.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    scorer: tuple[str, ...]
    target: str | None = None
    answer: str | None = None
    cluster: str | None = None
    by: tuple[str, ...] = ()
    failed_as: Literal["skip", "wrong"] = "skip"
    output: Path | None = None
    fail_under: float | None = None
    no_worse_than: str | None = None
    margin: float | None = None
    bar_on: Literal["value", "interval"] = "value"
    junit: Path | None = None
    markdown: Path | None = None
    grader: tuple[Path, ...] = ()
    grader_model: tuple[str, ...] = ()
    vote: Literal["majority", "mean"] | None = None
    question: str | None = None


_MANY = ("scorer", "by", "grader", "grader_model")
"""Options that may be given several times; one may stand without brackets."""


def make_score_options(given: Mapping[str, Any], where: str) -> ScoreOptions:
    """Validate options, by their names with underscores.

    Args:
        where: stands before messages.

    Raises:
        InputError: names the option, what was expected and what came.
    """
    from pydantic import TypeAdapter, ValidationError

    if not given.get("scorer"):
        raise InputError(f"{where}: names no scorer, such as numeric; {next(iter(given), 'it')} goes with one")
    options = {name: (value,) if name in _MANY and isinstance(value, str) else value for name, value in given.items()}
    try:
        found = TypeAdapter(ScoreOptions).validate_python(options)
    except ValidationError as exc:
        problem = exc.errors()[0]
        name, message = str(problem["loc"][0]), problem["msg"]
        if problem["type"] == "unexpected_keyword_argument":
            known = [each.name for each in fields(ScoreOptions)]
            raise InputError(f"{where}: unknown key {name!r}{nearest(name, known)}") from None
        text = f"{message[0].lower()}{message[1:]}, got {shortened(problem['input'])}"
        raise InputError(f"{where}: {name}: {text}") from None
    for path_name in ("output", "junit", "markdown"):
        if (path := getattr(found, path_name)) is not None:
            check_local(str(path), f"{where}: {path_name}")
    for name, share in (("fail_under", found.fail_under), ("margin", found.margin)):
        if share is not None and not 0 <= share <= 1:
            raise InputError(f"{where}: {name}: a number from 0 to 1 is expected, got {share:g}")
    if found.margin is not None and found.no_worse_than is None:
        raise InputError(f"{where}: margin goes with no_worse_than")
    if found.junit is not None and found.fail_under is None and found.no_worse_than is None:
        raise InputError(f"{where}: junit writes bars: add fail_under or no_worse_than")
    return found


@dataclass(frozen=True, slots=True)
class _Expected:
    """A table that is not there yet."""

    name: str
    columns: tuple[str, ...]

    def rows(self) -> Iterator[Row]:
        return iter(())

    def fingerprint(self) -> str:
        return ""


def check_question(name: str, columns: Sequence[str], question: ScoringSpec, baseline: str | None = None) -> None:
    """Find out before a batch is paid for whether its output cannot be scored.

    Args:
        name: of the table that is to be.
        columns: that it will have.
        baseline: the table that it will be paired with.

    Raises:
        InputError: a package is missing, or a scorer, a column, a grader or the baseline is wrong.
    """
    from batchrun.scoring.evaluate import check_baseline
    from batchrun.scoring.grading.grading import check_graders
    from batchrun.scoring.scorers.registry import make_scorers
    from batchrun.scoring.table import open_scored, scored_table

    scorers = make_scorers(question.scorers)
    tables = [scored_table(_Expected(name, tuple(columns)), scorers, question.columns)]
    if baseline is not None:
        check_baseline(baseline, question.columns)
        tables.append(open_scored(baseline, scorers, question.columns, question.read))
    if question.grading is not None:
        for table in tables:
            check_graders(table, question.grading)
