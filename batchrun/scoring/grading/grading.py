"""Model-graded scoring: a batch of one request for each answer, whose replies are the verdicts.

A grader is a job of its own, which `batchrun.batch.run` runs as any other, with limits, retries, budget, journal and
protocol. What it is asked stands in a table beside the one that is scored, one row for each different
request: the same question, answer and target are graded once, however often they stand in the table. A row is known by
what is asked and of whom, so that nothing is asked twice when rows are added, moved or answered again, or when one
goes back to an earlier rubric.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, Final

from batchrun.errors import GradingStopped, InputError, OutputHeld
from batchrun.job.environment import Environment
from batchrun.job.fingerprint import digest, settings_of
from batchrun.job.options import EMBEDDED_MODEL, Job
from batchrun.scoring.grading.grader import Grader
from batchrun.scoring.grading.rubric import Rubric, RubricError
from batchrun.scoring.grading.verdicts import decided
from batchrun.scoring.score_options import Vote
from batchrun.scoring.scorers.base import NamedScorer, Sample, Score, Scorer, is_missing
from batchrun.scoring.scorers.model_graded import ModelGradedScorer
from batchrun.tables import ReadOptions, open_source
from batchrun.tables.atomic import replacing
from batchrun.tables.values import json_text

if TYPE_CHECKING:
    from batchrun.batch.plan import Plan
    from batchrun.batch.run_summary import Summary
    from batchrun.scoring.table import ScoredTable

__all__ = [
    "GradedScorer",
    "GraderReport",
    "Grading",
    "check_graders",
    "graded",
    "grader_lines",
    "reports_of",
    "verdict_table",
]


_FOUND: Final = ("completed", "incomplete")


# -- who grades ------------------------------------------------------------------------------------------------


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
    from batchrun.batch.paths import paths_for
    from batchrun.batch.plan import make_plan

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
        unpriced=0 if plan.destination.is_embedded else summary.totals.unpriced,
        table=summary.output,
    )


def grader_lines(reports: Iterable[GraderReport]) -> Iterator[str]:
    """The reports for people."""
    from batchrun.wording import dollars, shown_path

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
