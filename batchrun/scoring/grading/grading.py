"""Model-graded scoring: a batch of one request for each answer, whose replies are the verdicts.

A grader is a job of its own, which `batchrun.batch.run` runs as any other, with limits, retries, budget, journal and
protocol. What it is asked stands in a table beside the one that is scored, one row for each different
request: the same question, answer and target are graded once, however often they stand in the table. A row is known by
what is asked and of whom, so that nothing is asked twice when rows are added, moved or answered again, or when one
goes back to an earlier rubric.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, Final

from batchrun.errors import GradingStopped, InputError, OutputHeld
from batchrun.job.file import read_job_file
from batchrun.job.options import (
    EMBEDDED_MODEL,
    Environment,
    Job,
    digest,
    make_job,
    nearest,
    read_text_option,
    settings_of,
)
from batchrun.scoring.grading.rubric import DEFAULT_RUBRIC, Rubric, RubricError
from batchrun.scoring.grading.verdicts import CHOICES, PARTIAL, Reader, Vote, decided
from batchrun.scoring.scorers.base import Sample, Score, Scorer, is_missing
from batchrun.scoring.scorers.registry import NamedScorer
from batchrun.tables import ReadOptions, open_source
from batchrun.tables.atomic import replacing
from batchrun.tables.values import json_text

if TYPE_CHECKING:
    from batchrun.batch.plan import Plan
    from batchrun.batch.run import Summary
    from batchrun.scoring.table import ScoredTable

__all__ = [
    "GradedScorer",
    "Grader",
    "GraderReport",
    "Grading",
    "check_graders",
    "graded",
    "grader_lines",
    "load_grader",
    "reports_of",
    "verdict_table",
]

_NOT_A_GRADERS: Final = {
    **dict.fromkeys(
        ("input", "output", "output_prefix", "key", "encoding", "delimiter", "safe_csv", "thread_column", "attach"),
        "a grader has none, it grades the table that is scored",
    ),
    "turns": "a grader is asked once: let the rubric say it all",
    "matrix": "a grader is one model with one rubric: name several graders",
    "epochs": "say votes in the table [grader]",
    "dedupe": "the same is never asked twice, unless by votes",
    "ping": "no watch is told of a grader; that of the batch can be",
}
"""Options of a batch that a grader cannot have, and why."""

_SERVICE: Final = (
    "api",
    "base_url",
    "header",
    "query",
    "organization",
    "project",
    "azure",
    "api_version",
    "prices",
    "concurrency",
    "rpm",
    "tpm",
)
"""Options that say where a model is, and what it takes: a grader that is only a model's name shares them."""

_FOUND: Final = ("completed", "incomplete")


# -- who grades ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Grader:
    """One that grades.

    Attributes:
        name: in the names of its files, and in messages.
        where: where it was described, for messages.
        job: how it is asked.
        rubric: the template of what it is asked.
        reader: how its verdicts are read.
        votes: how often it is asked about each answer.
        question: column of the question, or a template for it; None for the usual columns.
    """

    name: str
    where: str
    job: Job
    rubric: str = DEFAULT_RUBRIC
    reader: Reader = field(default_factory=Reader)
    votes: int = 1
    question: str | None = None

    @classmethod
    def of_model(cls, model: str, service: Mapping[str, Any], where: str) -> Grader:
        """A model with the default rubric.

        Args:
            service: options of a batch, of which those are taken that say where the model is.

        Raises:
            InputError: an option does not fit.
        """
        job = make_job({**{name: service[name] for name in _SERVICE if name in service}, "model": model})
        return cls(_file_name(model), where, replace(job, retry_failed=True))


def load_grader(path: Path, environ: Mapping[str, str]) -> Grader:
    """The grader of a job file: the keys of a batch, of which `prompt` is the rubric, and a table `[grader]`.

    Raises:
        InputError: the file cannot be read, or something in it does not fit.
    """
    name, options, tables = read_job_file(path, environ, ("grader",))
    given = {**options, "input": name}
    for key, reason in _NOT_A_GRADERS.items():
        if given.get(key):
            raise InputError(f"{path}: {key}: {reason}; remove the line")
    job = make_job({"retry_failed": True, **options})
    own = _GraderTable(str(path), tables.get("grader", {}))
    rubric = read_text_option(job.prompt, "prompt")
    reader = own.reader()
    if rubric is None and (reader.scale is not None or dict(reader.choices) not in (CHOICES, PARTIAL)):
        raise InputError(f"{path}: grader: grades of its own need a rubric that says what they mean: add prompt = ...")
    return Grader(
        name=_file_name(own.text("name") or path.stem),
        where=str(path),
        job=replace(job, prompt=None),
        rubric=DEFAULT_RUBRIC if rubric is None else rubric,
        reader=reader,
        votes=own.votes(),
        question=own.text("question"),
    )


def _file_name(name: str) -> str:
    """A name as a part of file names."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "grader"


@dataclass(frozen=True, slots=True)
class _GraderTable:
    """The table `[grader]` of a job file."""

    where: str
    table: Any

    KEYS: ClassVar = ("name", "choices", "partial", "scale", "pattern", "votes", "question")

    def __post_init__(self) -> None:
        if not isinstance(self.table, dict):
            raise InputError(f"{self.where}: grader: a table [grader] is expected, got {self.table!r}")
        for key in self.table:
            if key not in self.KEYS:
                raise InputError(f"{self.where}: grader: unknown key {key!r}{nearest(key, self.KEYS)}")
        if sum(key in self.table for key in ("choices", "partial", "scale")) > 1:
            raise InputError(f"{self.where}: grader: choices, partial and scale are three ways; say one of them")

    def text(self, key: str) -> str | None:
        value = self.table.get(key)
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise self._wrong(key, "text")
        return value

    def votes(self) -> int:
        value = self.table.get("votes", 1)
        if type(value) is not int or not 1 <= value <= 100:
            raise self._wrong("votes", "a whole number from 1 to 100")
        return value

    def reader(self) -> Reader:
        partial = self.table.get("partial", False)
        if not isinstance(partial, bool):
            raise self._wrong("partial", "true or false")
        pattern = self.text("pattern")
        try:
            compiled = None if pattern is None else re.compile(pattern)
        except re.error as exc:
            raise InputError(f"{self.where}: grader: pattern: no regular expression of Python's ({exc})") from None
        if compiled is not None and compiled.groups != 1:
            raise self._wrong("pattern", "one group, which holds the grade,")
        return Reader(self._choices(PARTIAL if partial else CHOICES), self._scale(), compiled)

    def _choices(self, default: Mapping[str, float]) -> Mapping[str, float]:
        choices = self.table.get("choices", default)
        expected = "grades with values from 0 to 1, such as { C = 1.0, I = 0.0 },"
        if not isinstance(choices, Mapping) or not choices:
            raise self._wrong("choices", expected)
        if not all(_is_number(value) and 0 <= value <= 1 for value in choices.values()):
            raise self._wrong("choices", expected)
        if len({name.casefold() for name in choices}) < len(choices):
            raise self._wrong("choices", "grades that differ by more than capitals")
        return {name: float(value) for name, value in choices.items()}

    def _scale(self) -> tuple[float, float] | None:
        scale = self.table.get("scale")
        if scale is None:
            return None
        if not (isinstance(scale, list) and len(scale) == 2 and all(map(_is_number, scale)) and scale[0] < scale[1]):
            raise self._wrong("scale", "lowest and highest grade, such as [1, 10],")
        return float(scale[0]), float(scale[1])

    def _wrong(self, key: str, expected: str) -> InputError:
        return InputError(f"{self.where}: grader: {key}: {expected} is expected, got {self.table[key]!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12


# -- how they are asked ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GraderReport:
    """What a grader did for one table.

    Attributes:
        grader: its name.
        model: that was asked, as the job names it.
        requests: different requests, over all its votes.
        asked: those of them that were not answered before.
        read, unread, failed: verdicts that could be read, that could not, and requests that failed; at most `requests`
            in all.
        prompt_tokens, completion_tokens: of all of them, whenever they were asked.
        cost_usd: likewise, None if not known; without that of `unpriced` requests.
        table: where they are, with the grader's own words.
    """

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
    table: Path | None

    def facts(self) -> dict[str, Any]:
        """The report for machines."""
        names = ("grader", "model", "requests", "asked", "read", "unread", "failed")
        amounts = ("prompt_tokens", "completion_tokens", "cost_usd", "unpriced")
        table = None if self.table is None else str(self.table)
        return {**{name: getattr(self, name) for name in (*names, *amounts)}, "table": table}


@dataclass(frozen=True, slots=True)
class Grading:
    """Who grades, and how they are asked.

    Attributes:
        environment: where the services' keys are.
        run: runs a batch to its end, and shows it.
        graders: those of every scorer that names none of its own.
        load: makes a grader of a path.
        vote: what several verdicts come to; None for the mean on scales, else the majority.
        question: the same, where a grader names none.
        tell: is given each report.
        on_no_key: is told that a grader has no key, where nothing is to be asked; None refuses such a grader.
    """

    environment: Environment
    run: Callable[[Plan], Summary]
    graders: Sequence[Grader] = ()
    load: Callable[[Path], Grader] | None = None
    vote: Vote | None = None
    question: str | None = None
    tell: Callable[[GraderReport], None] | None = None
    on_no_key: Callable[[str], None] | None = None

    def graders_of(self, scorer: ModelGradedScorer) -> list[Grader]:
        """The graders of a scorer.

        Raises:
            InputError: none, two of the same name, or a file that cannot be used.
        """
        own = [self.load(path) for path in scorer.files] if self.load is not None else []
        graders = own or list(self.graders)
        if not graders:
            raise InputError("--scorer model-graded: who grades? Say --grader FILE.toml, or --grader-model NAME")
        for number, grader in enumerate(graders):
            if any(grader.name == other.name for other in graders[:number]):
                raise InputError(
                    f"{grader.where}: there are two graders named {grader.name!r}; name one in its [grader] table"
                )
            self._check(grader)
        return graders

    def _check(self, grader: Grader) -> None:
        job, environment = grader.job, self.environment
        if job.model == EMBEDDED_MODEL and not (job.base_url or job.script or job.azure or environment.client_options):
            raise InputError(f"{grader.where}: the embedded server's tutor grades nothing; name another model")
        key = environment.azure_key if job.azure else environment.api_key
        if not (key or job.base_url or job.script or environment.base_url or environment.client_options):
            problem = (
                f"{grader.where}: no API key (OPENAI_API_KEY), and no base_url in the grader's file, so nothing can be "
                "asked of its model; the embedded server's tutor grades nothing"
            )
            if self.on_no_key is None:
                raise InputError(problem)
            self.on_no_key(problem)
        if not (job.model or job.assistant or environment.model):
            raise InputError(f'{grader.where}: names no model: add a line such as model = "NAME"')


class ModelGradedScorer(Scorer):
    """Stands where graders are wanted; `graded` asks them and puts a `GradedScorer` in its place."""

    needs_target = False

    def __init__(self, files: Sequence[Path] = ()) -> None:
        """
        Args:
            files: the scorer's own graders.
        """
        self.files = tuple(files)

    def score(self, sample: Sample) -> Score:  # noqa: ARG002 - the interface's signature
        raise InputError(
            "--scorer model-graded: works in batchrun score, compare and run; elsewhere take the scored table, and "
            "--scorer column:score_model-graded"
        )


@dataclass(frozen=True, slots=True)
class GradedScorer(Scorer):
    """Graders who have graded: a sample's score is what their verdicts come to.

    Attributes:
        panel: each grader's verdicts.
        vote: what several come to.
    """

    needs_target: ClassVar[bool] = False
    panel: Sequence[_Graded]
    vote: Vote

    def score(self, sample: Sample) -> Score:
        if any(each.rubric.needs_target for each in self.panel) and not _has_target(sample):
            return _NO_TARGET
        verdicts: list[_Verdict] = []
        for each in self.panel:
            verdicts += each.verdicts(sample)
        values = [verdict.value for verdict in verdicts if verdict.value is not None]
        value = decided(values, self.vote)
        read = "; ".join(verdict.read for verdict in verdicts if verdict.read is not None) or None
        if value is not None:
            return Score(value, "\n\n".join(verdict.text for verdict in verdicts), read)
        if values:
            return Score(None, "as many verdicts for one value as for another", read)
        return Score(None, verdicts[0].trouble if len(verdicts) == 1 else "no verdict that can be read", read)

    @property
    def reports(self) -> list[GraderReport]:
        """What each grader did."""
        return [each.report for each in self.panel]


_NO_TARGET: Final = Score(None, "no target")


def _has_target(sample: Sample) -> bool:
    return not is_missing(sample.target) and sample.target != []


@dataclass(frozen=True, slots=True)
class _Verdict:
    """One reply of a grader.

    Attributes:
        value, read: as in `Reading`; `read` with the grader's name where there are several.
        text: all that it said.
        trouble: why there is no value; the same text for the same trouble.
    """

    value: float | None
    read: str | None
    text: str
    trouble: str


@dataclass(frozen=True, slots=True)
class _Graded:
    """A grader and what it said.

    Attributes:
        found: `_known_by` of a request → its verdicts.
    """

    grader: Grader
    rubric: Rubric
    found: Mapping[str, Sequence[_Verdict]]
    report: GraderReport

    def verdicts(self, sample: Sample) -> Sequence[_Verdict]:
        try:
            asked = _known_by(self.grader.job, self.rubric.render(sample))
        except RubricError as exc:
            return [_Verdict(None, None, "", str(exc))]
        return self.found.get(asked) or [_Verdict(None, None, "", f"grader {self.grader.name} was not asked")]


def graded(table: ScoredTable, grading: Grading) -> ScoredTable:
    """Ask the graders of a table, those of one scorer after those of another; what they said is in its scorers.

    Raises:
        InputError: a grader, or its rubric, does not fit the table.
        GradingStopped: the batch of a grader ended early: its budget is spent, it was refused or interrupted.
        OutputError, OutputHeld, JournalMismatch: as for every batch.
    """
    wanted = check_graders(table, grading)
    scorers = []
    for named in table.scorers:
        panel = wanted.get(named.name)
        if panel is None:
            scorers.append(named)
            continue
        several = sum(grader.votes for grader, _ in panel) > 1
        found = [_graded(table, grader, rubric, grading, several=several) for grader, rubric in panel]
        on_scale = any(grader.reader.scale is not None for grader, _ in panel)
        vote: Vote = grading.vote or ("mean" if on_scale else "majority")
        scorers.append(NamedScorer(named.name, GradedScorer(found, vote)))
    return replace(table, scorers=scorers)


def check_graders(table: ScoredTable, grading: Grading) -> dict[str, list[tuple[Grader, Rubric]]]:
    """Model-graded scorer → its graders with their rubrics, all of them checked, none of them asked.

    Raises:
        InputError: a grader, or its rubric, does not fit the table.
    """
    if grading.graders and not any(isinstance(named.scorer, ModelGradedScorer) for named in table.scorers):
        raise InputError(f"{grading.graders[0].where}: a grader goes with --scorer model-graded")
    found = {
        named.name: grading.graders_of(named.scorer)
        for named in table.scorers
        if isinstance(named.scorer, ModelGradedScorer)
    }
    names: dict[str, Grader] = {}
    for grader in (grader for graders in found.values() for grader in graders):
        if names.setdefault(grader.name, grader) != grader:
            raise InputError(
                f"{grader.where}: there are two graders named {grader.name!r}; name one in its [grader] table"
            )
    return {name: [(grader, _rubric(table, grader, grading)) for grader in graders] for name, graders in found.items()}


def _rubric(table: ScoredTable, grader: Grader, grading: Grading) -> Rubric:
    return Rubric(
        grader.rubric,
        table.source.columns,
        where=grader.where,
        question=grader.question or grading.question,
        target=table.columns.target,
        grade_line=grader.reader.grade_line(),
        grades=[] if grader.reader.scale is not None else list(grader.reader.choices),
    )


def reports_of(table: ScoredTable) -> list[GraderReport]:
    """What the graders of a table did, each grader once."""
    scorers = [named.scorer for named in table.scorers if isinstance(named.scorer, GradedScorer)]
    return list({report.grader: report for scorer in scorers for report in scorer.reports}.values())


def verdict_table(name: str, grader: str) -> Path:
    """Where the verdicts on a table are, beside it: `answers.csv.grader-NAME.csv`; its journal is beside that."""
    path = Path(name)
    return path.with_name(f"{path.name}.grader-{grader}.csv")


def _graded(table: ScoredTable, grader: Grader, rubric: Rubric, grading: Grading, *, several: bool) -> _Graded:
    """Ask one grader about every answer of a table."""
    from batchrun.batch.lock import is_held
    from batchrun.batch.plan import make_plan, paths_for

    output = verdict_table(table.source.name, grader.name)
    paths = paths_for(output)
    if is_held(paths.lock) and not grader.job.wait:
        raise OutputHeld(f"another scoring asks this grader (it holds {paths.lock}); score again when it has ended")
    asked = output.with_name(output.name + ".input.jsonl")
    if not _write_requests(asked, table, grader, rubric):
        report = GraderReport(grader.name, grader.job.model, 0, 0, 0, 0, 0, 0, 0, None, 0, None)
        return _Graded(grader, rubric, {}, report)
    # The rubric's text is in the table already; what changed between two scorings shows in what is asked.
    job = replace(grader.job, prompt="{{ prompt }}", key="key", accept_changes=True)
    try:
        plan = make_plan(job, asked, grading.environment, output)
        summary = grading.run(plan)
    except InputError as exc:
        raise InputError(f"{grader.where}: {exc}") from None
    if summary.stop is not None:
        raise GradingStopped(
            f"grader {grader.name} stopped: {summary.stop.reason}; the verdicts so far are kept in {paths.journal}; "
            "score again to go on: only the rest is asked",
            exit_code=summary.stop.exit_code,
        )
    found = _read_verdicts(output, grader, several=several)
    report = _report(grader, plan, summary, found)
    if grading.tell is not None:
        grading.tell(report)
    return _Graded(grader, rubric, found, report)


def _known_by(job: Job, text: str) -> str:
    """What a request is known by: its text, and of whom it is asked."""
    return digest(settings_of(job), text)


def _write_requests(path: Path, table: ScoredTable, grader: Grader, rubric: Rubric) -> int:
    """Write the table of what a grader is asked; returns its rows, and leaves no table where there are none."""
    with ExitStack() as stack:
        file = stack.enter_context(replacing(path, mode=0o600))
        requests = _Requests(file, grader, rubric, table.columns.key)
        replace(table, scorers=[NamedScorer("requests", requests)]).tally()
    if not requests.written:
        path.unlink()
    return len(requests.written) * grader.votes


class _Requests(Scorer):
    """Takes the place of a scorer to see what a scorer sees, and writes down what a grader is to be asked."""

    needs_target = False

    def __init__(self, file: IO[bytes], grader: Grader, rubric: Rubric, key: str | None) -> None:
        self.written: set[str] = set()
        self._file, self._grader, self._rubric, self._key = file, grader, rubric, key

    def score(self, sample: Sample) -> Score:
        if self._rubric.needs_target and not _has_target(sample):
            return _NO_TARGET
        try:
            text = self._rubric.render(sample)
        except RubricError as exc:
            return Score(None, str(exc))
        asked = _known_by(self._grader.job, text)
        if asked not in self.written:
            self.written.add(asked)
            first = {} if self._key is None else {"row": sample.row[self._key]}
            for vote in range(1, self._grader.votes + 1):
                line = json_text({"key": f"{asked}-{vote}", "request": asked, **first, "prompt": text})
                # In JSON text the escape of a lone surrogate is JSON's own.
                self._file.write(f"{line}\n".encode("utf-8", "backslashreplace"))
        return Score(None, "to be graded")


def _read_verdicts(output: Path, grader: Grader, *, several: bool) -> dict[str, list[_Verdict]]:
    """Request → verdicts, from the table that the grader's batch has written."""
    found: dict[str, list[_Verdict]] = {}
    for row in open_source(str(output), ReadOptions(encoding="utf-8", delimiter=",")).rows():
        cells = row.values
        found.setdefault(cells["request"], []).append(_verdict(cells, grader, several=several))
    return found


def _verdict(cells: Mapping[str, Any], grader: Grader, *, several: bool) -> _Verdict:
    text = cells["response"] or ""
    if cells["status"] not in _FOUND:
        return _Verdict(None, None, text, f"grader {grader.name} failed: {cells['error_type'] or cells['status']}")
    if cells["status"] == "incomplete":
        # What would have been its last line is not there, and another one must not pass for it.
        return _Verdict(None, None, text, f"the verdict of grader {grader.name} was cut short")
    reading = grader.reader.read(text)
    read = f"{grader.name}: {reading.read}" if several and reading.read is not None else reading.read
    return _Verdict(reading.value, read, text, f"the verdict of grader {grader.name} cannot be read")


def _report(grader: Grader, plan: Plan, summary: Summary, found: Mapping[str, Sequence[_Verdict]]) -> GraderReport:
    verdicts = [verdict for each in found.values() for verdict in each]
    read = sum(verdict.value is not None for verdict in verdicts)
    failed = summary.totals.failed
    return GraderReport(
        grader=grader.name,
        model=plan.job.model,
        requests=summary.rows,
        asked=summary.rows - summary.statistics.finished_before,
        read=read,
        unread=len(verdicts) - read - failed,
        failed=failed,
        prompt_tokens=summary.totals.prompt_tokens,
        completion_tokens=summary.totals.completion_tokens,
        cost_usd=summary.totals.cost_usd,
        unpriced=0 if plan.embedded else summary.totals.unpriced,
        table=summary.output,
    )


def grader_lines(reports: Iterable[GraderReport]) -> Iterator[str]:
    """The reports for people."""
    from batchrun.batch.display import dollars
    from batchrun.wording import shown_path

    for each in reports:
        cost = "" if each.cost_usd is None else dollars(each.cost_usd)
        if each.unpriced:
            cost += f", unknown for {each.unpriced:,} of them" if cost else "cost unknown"
        parts = [
            f"grader {each.grader}",
            f"{each.requests:,} verdict{'' if each.requests == 1 else 's'}",
            f"{each.asked:,} asked for now" if each.requests else "",
            f"{each.unread:,} not readable" if each.unread else "",
            f"{each.failed:,} failed" if each.failed else "",
            f"{each.prompt_tokens:,} tokens in, {each.completion_tokens:,} out",
            cost,
            shown_path(each.table) if each.table is not None else "",
        ]
        yield " · ".join(filter(None, parts))
