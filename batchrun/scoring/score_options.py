"""ScoreOptions: every option of scoring, its default, its rule and its help, in one place.

The flags of `score`, `compare`, `report`, `view` and `run`, and the keys of a job file's table `[score]`, are all made
from these fields: a field's name is its key in the table and (with dashes) its flag. Nothing here imports a heavy
library at import time, since `batchrun --help` reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, TypeAlias, get_args

from batchrun.errors import InputError
from batchrun.job.option_values import suggestion
from batchrun.job.options import job_options
from batchrun.local_paths import check_local
from batchrun.records import JsonObject
from batchrun.wording import shortened

__all__ = [
    "MIN_SCORED",
    "BarOn",
    "FailedAs",
    "Ready",
    "ScoreOption",
    "ScoreOptions",
    "Use",
    "Vote",
    "make_score_options",
    "missing_option",
    "score_options",
    "score_problems",
]

MIN_SCORED: Final = 0.95
"""Lowest share of the rows with a target that must have a score before a bar can pass."""

FailedAs: TypeAlias = Literal["skip", "wrong"]
"""How failed rows count: not at all, or as 0."""

BarOn: TypeAlias = Literal["value", "interval"]
"""The figure that must reach a bar: the mean, or the lower end of its confidence interval."""

Vote: TypeAlias = Literal["majority", "mean"]
"""How several verdicts on one answer are combined: by the most frequent value, or by their mean."""

Ready: TypeAlias = Literal["correctness", "factuality", "closed-qa", "faithfulness"]
"""The rubrics that batchrun has: `batchrun.scoring.grading.ready_rubrics`."""

Use: TypeAlias = Literal["score", "compare", "report", "view", "run", "job file"]
"""Where an option can be given: a command, or the table `[score]` of a job file."""

_TABLES: tuple[Use, ...] = ("score", "compare", "report", "view")
_WITH_GRADERS: tuple[Use, ...] = ("score", "compare", "run", "job file")
_EVERYWHERE: tuple[Use, ...] = (*_TABLES, "run", "job file")
_BARS: tuple[Use, ...] = ("score", "run", "job file")


@dataclass(frozen=True, slots=True)
class ScoreOption:
    """How a field is shown and read on the command line.

    Attributes:
        section: heading in the help.
        help: one noun phrase, without the default.
        uses: where the option can be given.
        metavar: placeholder of the value in the help.
        flags: overrides of the flag made from the name.
        choices: allowed values; empty if any text is allowed.
        is_share: the value is a number from 0 to 1.
        is_path: the value names a file on this machine, in a job file relative to that file.
        is_flag: the flag has no value.
        repeated: the flag may be repeated; in a job file the value is a list, or one text.
    """

    section: str
    help: str
    uses: tuple[Use, ...]
    metavar: str | None = None
    flags: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    is_share: bool = False
    is_path: bool = False
    is_flag: bool = False
    repeated: bool = False


def _option(default: Any, section: str, help: str, uses: tuple[Use, ...], **rest: Any) -> Any:  # noqa: A002 - click's word
    return field(default=default, metadata={"option": ScoreOption(section, help, uses, **rest)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOptions:
    """How a table is scored, and which bars it has to reach.

    The command line builds it from parsed flags, a job file through `make_score_options`, which validates.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    scorer: tuple[str, ...] = _option(
        (),
        "Scoring",
        "Scorer: exact, ne, includes, starts-with, contains-all, contains-any, regex, numeric, choice, json, fuzzy, "
        "f1, rouge1, rouge2, rougeL, bleu, cosine, math, python:FILE.py:function, column or model-graded. "
        "May be repeated",
        _EVERYWHERE,
        metavar="[NAME=]KIND[:OPTIONS]",
        repeated=True,
    )
    target: str | None = _option(
        None,
        "Scoring",
        "Column with the expected answer, or a field of its objects: answers.text",
        _EVERYWHERE,
        metavar="COLUMN",
    )
    answer: str | None = _option(
        None,
        "Scoring",
        "Column with the answer. Default: response",
        (*_TABLES, "job file"),
        metavar="COLUMN",
    )
    key: str | None = _option(
        None, "Scoring", "Column with row ids; rows with the same id are epochs of one row", _TABLES, metavar="COLUMN"
    )
    epochs_column: str | None = _option(
        None,
        "Scoring",
        "Column with the epoch of a row, its repetition. Default: epoch, if the table has it",
        _TABLES,
        metavar="COLUMN",
    )
    cluster: str | None = _option(
        None,
        "Scoring",
        "Column with the cluster of a row; rows of one cluster are not independent",
        _EVERYWHERE,
        metavar="COLUMN",
    )
    split: str | None = _option(
        None,
        "Comparison",
        "Column whose values split one table into parts to compare",
        ("compare", "report"),
        metavar="COLUMN",
    )
    by: tuple[str, ...] = _option(
        (),
        "Scoring",
        "Column to break the scores down by. May be repeated",
        _EVERYWHERE,
        metavar="COLUMN",
        repeated=True,
    )
    ignore: tuple[str, ...] = _option(
        (),
        "Comparison",
        "Column that may differ between the rows of a pair, such as a prompt's wording. May be repeated",
        ("compare",),
        metavar="COLUMN",
        repeated=True,
    )
    labels: str | None = _option(
        None,
        "Scoring",
        "Column with hand labels, right or wrong, to compare the scores with; rating: those given in batchrun view",
        ("score", "run", "job file"),
        metavar="COLUMN",
    )
    failed_as: FailedAs = _option(
        "skip",
        "Scoring",
        "How failed rows count: not at all (skip) or as 0 (wrong); they are reported in either case",
        _EVERYWHERE,
        choices=("skip", "wrong"),
    )
    encoding: str | None = _option(
        None,
        "Scoring",
        "Encoding of text tables. Default: by the byte order mark, else UTF-8",
        ("score", "compare", "report"),
        metavar="NAME",
    )
    delimiter: str | None = _option(
        None, "Scoring", "CSV delimiter. Default: detected", ("score", "compare", "report"), metavar="CHAR"
    )

    no_header: bool = _option(
        False,
        "Scoring",
        "Read the first line of a CSV or TSV as a row; the columns are named column_1, column_2, …",
        ("score", "compare", "report"),
        is_flag=True,
    )

    skip_rows: int | None = _option(
        None,
        "Scoring",
        "Lines above the header of a CSV or TSV, or rows above that of a sheet. Default: recognised in CSV and TSV",
        ("score", "compare", "report"),
        metavar="N",
    )
    sheet: str | None = _option(
        None,
        "Scoring",
        "Sheet of an Excel workbook. Default: the first visible one that has cells",
        ("score", "compare", "report"),
        metavar="NAME",
    )

    grader: tuple[Path, ...] = _option(
        (),
        "Graders",
        "Grader for model-graded scorers: a job file whose prompt is the rubric. May be repeated, for votes",
        _WITH_GRADERS,
        metavar="FILE.toml",
        is_path=True,
        repeated=True,
    )
    grader_model: tuple[str, ...] = _option(
        (),
        "Graders",
        "Model that grades by --rubric, for model-graded scorers. May be repeated, for votes",
        _WITH_GRADERS,
        metavar="NAME",
        repeated=True,
    )
    vote: Vote | None = _option(
        None,
        "Graders",
        "How to combine several verdicts. Default: mean for grades on a scale, else majority",
        _WITH_GRADERS,
        choices=("majority", "mean"),
    )
    question: str | None = _option(
        None,
        "Graders",
        "Question shown to graders: a column or a template. Default: the column prompt, question, messages or "
        "conversations; in run, the row's prompt",
        _WITH_GRADERS,
        metavar="COLUMN|TEMPLATE",
    )
    rubric: Ready | None = _option(
        None,
        "Graders",
        "Rubric of --grader-model. Default: correctness, which compares the answer with the target",
        _WITH_GRADERS,
        choices=get_args(Ready),
    )
    context: str | None = _option(
        None,
        "Graders",
        "Column with the texts that an answer must be faithful to. Default: context",
        _WITH_GRADERS,
        metavar="COLUMN",
    )

    fail_under: float | None = _option(
        None,
        "Bars",
        "Lowest accepted mean of each scorer; a lower mean exits with 7",
        _BARS,
        metavar="X",
        is_share=True,
    )
    no_worse_than: str | None = _option(
        None,
        "Bars",
        "Table whose scores are the baseline; a lower mean exits with 7",
        _BARS,
        metavar="BASELINE",
        is_path=True,
    )
    margin: float | None = _option(
        None,
        "Bars",
        "With --no-worse-than: accepted loss against the baseline. Default: 0",
        _BARS,
        metavar="X",
        is_share=True,
    )
    bar_on: BarOn = _option(
        "value",
        "Bars",
        "Figure that must reach a bar: the mean (value), or the lower end of its 95 % confidence interval",
        _BARS,
        choices=("value", "interval"),
    )

    min_scored: float | None = _option(
        None,
        "Bars",
        "Lowest share of the rows with a target that must have a score; with a lower share every bar fails. "
        f"Default: {MIN_SCORED:g}",
        _BARS,
        metavar="X",
        is_share=True,
    )

    output: Path | None = _option(
        None,
        "Files",
        "Output file for the scored table. Default: NAME.scored.ENDING, next to the table",
        ("score", "job file"),
        metavar="PATH",
        flags=("-o", "--output"),
        is_path=True,
    )
    junit: Path | None = _option(None, "Files", "JUnit XML file for the bars", _BARS, metavar="FILE.xml", is_path=True)
    markdown: Path | None = _option(
        None,
        "Files",
        "Markdown file for the results",
        ("score", "compare", "run", "job file"),
        metavar="FILE.md",
        is_path=True,
    )


def score_options(use: Use) -> dict[str, tuple[ScoreOption, Any]]:
    """Field name → the option and its default, for one command or the job file, in the order of the help."""
    options = {each.name: (each.metadata["option"], each.default) for each in fields(ScoreOptions)}
    return {name: (option, default) for name, (option, default) in options.items() if use in option.uses}


def score_problems(given: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the path and the text of each problem of a table `[score]` that no other key or flag can solve."""
    if not isinstance(given, dict):
        yield (), f"expected a table [score], got {shortened(given)}"
        return
    for name, value in given.items():
        try:
            # With a scorer and a baseline, no key lacks another one.
            made = make_score_options({"scorer": "exact", "no_worse_than": "baseline.csv", name: value}, "score")
            if name == "scorer":
                _check_scorers(made.scorer)
        except InputError as exc:
            misplaced = name in job_options() and name not in score_options("job file")
            hint = "; in TOML, options of the batch come before the first [table]" if misplaced else ""
            yield (name,), str(exc).removeprefix("score: ").replace("--scorer ", "scorer: ", 1) + hint


def _check_scorers(specs: tuple[str, ...]) -> None:
    """Raise InputError if a scorer or an option of it is unknown. A file of the user's is not run for that."""
    from batchrun.scoring.scorers.registry import make_scorers

    for spec in specs:
        if not spec.rpartition("=")[2].startswith("python") and not spec.startswith("python"):
            make_scorers([spec])


def make_score_options(given: JsonObject, where: str, use: Use = "job file") -> ScoreOptions:
    """Validate the options of a job file's table `[score]`, or of a Python function, by their names with underscores.

    Args:
        where: prefix of messages.
        use: where the options are given.

    Raises:
        InputError: names the option, the expected and the given value.
    """
    from pydantic import TypeAdapter, ValidationError

    known = score_options(use)
    if use in ("job file", "run") and not given.get("scorer"):
        raise InputError(f"{where}: names no scorer, such as numeric; {next(iter(given), 'it')} requires one")
    if unknown := next((name for name in given if name not in known), None):
        raise InputError(f"{where}: unknown key {unknown!r}{suggestion(unknown, known)}")
    options = {
        name: (value,) if known[name][0].repeated and isinstance(value, str | Path) else value
        for name, value in given.items()
    }
    try:
        made = TypeAdapter(ScoreOptions).validate_python(options)
    except ValidationError as exc:
        problem = exc.errors()[0]
        name, message = str(problem["loc"][0]), problem["msg"]
        text = f"{message[0].lower()}{message[1:]}, got {shortened(problem['input'])}"
        raise InputError(f"{where}: {name}: {text}") from None
    for path_name in ("output", "junit", "markdown"):
        if (path := getattr(made, path_name)) is not None:
            check_local(str(path), f"{where}: {path_name}")
    for name in (name for name, (option, _) in known.items() if option.is_share):
        share = getattr(made, name)
        if share is not None and not 0 <= share <= 1:
            raise InputError(f"{where}: {name}: expected a number from 0 to 1, got {share:g}")
    if (line := missing_option(made, str)) is not None:
        raise InputError(f"{where}: {line}")
    return made


def missing_option(options: ScoreOptions, shown: Callable[[str], str]) -> str | None:
    """Return a line about an option that is given without the one that it needs; None if there is none.

    Args:
        shown: writes the name of an option as the user knows it.
    """
    if options.margin is not None and options.no_worse_than is None:
        return f"{shown('margin')} requires {shown('no_worse_than')}"
    if options.fail_under is not None or options.no_worse_than is not None:
        return None
    if options.bar_on != "value":
        return f"{shown('bar_on')} requires a bar: add {shown('fail_under')} or {shown('no_worse_than')}"
    for name in ("junit", "min_scored"):
        if getattr(options, name) is not None:
            return f"{shown(name)} requires a bar: add {shown('fail_under')} or {shown('no_worse_than')}"
    return None
