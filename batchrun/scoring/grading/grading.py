"""Model-graded scoring: a batch with one request for each answer, whose replies are the verdicts.

A grader is a job, which `batchrun.batch.run` runs like any other, with limits, retries, budget, journal and protocol.
Its requests are in a table next to the scored table, one row for each different request: the same question, answer and
expected answer are graded once, however often they occur. A request is identified by its text and its model and
settings. Nothing is therefore graded twice if rows are added, moved or answered again, or if an earlier rubric is used
again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from batchrun.errors import InputError
from batchrun.job.environment import Environment
from batchrun.job.options import EMBEDDED_MODEL
from batchrun.records import Settings
from batchrun.scoring.grading.asking import CostOf, Requests, ask, cost_of, verdict_table
from batchrun.scoring.grading.embeddings import EmbeddingsScorer, check_embeddings, embeddings_cost
from batchrun.scoring.grading.graded_scorer import GradedScorer, GraderVerdicts
from batchrun.scoring.grading.grader import Grader, load_grader
from batchrun.scoring.grading.grader_report import GraderReport
from batchrun.scoring.grading.grading_cost import ScoringCosts
from batchrun.scoring.grading.requests import write_requests
from batchrun.scoring.grading.rubric import Rubric
from batchrun.scoring.score_options import ScoreOptions, Vote
from batchrun.scoring.scorers.cosine import CosineScorer
from batchrun.scoring.scorers.model_graded import ModelGradedScorer
from batchrun.scoring.table import ScoredTable

if TYPE_CHECKING:
    from batchrun.batch.plan import Plan
    from batchrun.batch.run_summary import Summary

__all__ = ["Grading", "check_graders", "grade", "reports_of", "scoring_costs"]


@dataclass(frozen=True, slots=True)
class Grading:
    """The graders, and how they are asked.

    Attributes:
        environment: the environment with the services' keys.
        run: runs a batch to its end and displays it.
        graders: graders of every scorer that does not name its own.
        load: makes a grader from a path; None if scorers cannot name their own.
        vote: how several verdicts are combined; None for the mean on scales, else the majority.
        question: column of the question, or a template for it, for graders that name none.
        context: column of the context, for rubrics that use one; None for `context`.
        tell: receives each report; None for no one.
        on_no_key: receives a message about a grader without an API key if no request will be sent; None refuses such
            a grader.
        beside: the file next to which the verdicts are kept; None for the scored table.
    """

    environment: Environment
    run: Callable[[Plan], Summary]
    graders: Sequence[Grader] = ()
    load: Callable[[Path], Grader] | None = None
    vote: Vote | None = None
    question: str | None = None
    context: str | None = None
    tell: Callable[[GraderReport], None] | None = None
    on_no_key: Callable[[str], None] | None = None
    beside: str | None = None

    @classmethod
    def of(
        cls,
        options: ScoreOptions,
        environment: Environment,
        run: Callable[[Plan], Summary],
        *,
        environ: Mapping[str, str],
        service: Settings | None = None,
        tell: Callable[[GraderReport], None] | None = None,
    ) -> Grading:
        """Return how the graders of `options` are asked.

        Args:
            environment: keys and addresses.
            run: runs a batch to its end and displays it.
            environ: environment variables, for the job files of graders.
            service: options of a batch whose service the graders of `--grader-model` share.
            tell: receives each report.

        Raises:
            InputError: a grader's file or an option cannot be used.
        """

        def load(path: Path) -> Grader:
            return load_grader(path, environ)

        if options.rubric is not None and not options.grader_model:
            raise InputError(
                '--rubric: names the rubric of --grader-model; in a grader\'s file, write it as rubric = "..." in the '
                "table [grader]"
            )
        by_model = [
            Grader.of_model(name, service or {}, f"--grader-model {name}", options.rubric or "correctness")
            for name in options.grader_model
        ]
        return cls(
            environment=environment,
            run=run,
            graders=[*map(load, options.grader), *by_model],
            load=load,
            vote=options.vote,
            question=options.question,
            context=options.context,
            tell=tell,
        )

    def graders_of(self, scorer: ModelGradedScorer) -> list[Grader]:
        """Return the graders of a scorer.

        Raises:
            InputError: there is no grader, two have the same name, or a file cannot be used.
        """
        own = [self.load(path) for path in scorer.files] if self.load is not None else []
        graders = own or list(self.graders)
        if scorer.rubric is not None:
            if own or any(grader.is_file for grader in graders):
                raise InputError(
                    f"--scorer model-graded:rubric={scorer.rubric}: needs graders of --grader-model; a grader's file "
                    "has its own rubric"
                )
            graders = [grader.with_rubric(scorer.rubric) for grader in graders]
        if not graders:
            raise InputError("--scorer model-graded: no grader is named; add --grader FILE.toml or --grader-model NAME")
        for number, grader in enumerate(graders):
            if any(grader.name == other.name for other in graders[:number]):
                raise _same_name(grader)
            self.check(grader)
        return graders

    def check(self, grader: Grader) -> None:
        """Check that a grader can be asked.

        Raises:
            InputError: it has no model, or its service cannot be reached.
        """
        job, environment = grader.job, self.environment
        if job.model == EMBEDDED_MODEL and not (job.base_url or job.script or job.azure or environment.client_options):
            raise InputError(f"{grader.where}: the embedded server's tutor cannot grade; name another model")
        key = environment.azure_key if job.azure else environment.api_key
        if not (key or job.base_url or job.script or environment.base_url or environment.client_options):
            problem = (
                f"{grader.where}: no API key (OPENAI_API_KEY), and no base_url in the grader's file, so its model "
                "cannot be reached; the embedded server's tutor cannot grade, a script can: script = FILE in that file"
            )
            if self.on_no_key is None:
                raise InputError(problem)
            self.on_no_key(problem)
        if not (job.model or job.assistant or environment.model):
            raise InputError(f'{grader.where}: the grader has no model: add a line such as model = "NAME"')


def _same_name(grader: Grader) -> InputError:
    return InputError(
        f"{grader.where}: there are two graders named {grader.name!r}; name one of them in its [grader] table"
    )


def grade(table: ScoredTable, grading: Grading) -> ScoredTable:
    """Ask the graders of a table, scorer by scorer, and return the table with scorers that hold the verdicts.

    Raises:
        InputError: a grader, or its rubric, does not fit the table.
        GradingStopped: the batch of a grader ended early: the budget is spent, the service refused it, or a signal
            interrupted it.
        OutputError, OutputHeld, JournalMismatch: as for every batch.
    """
    panels = check_graders(table, grading)
    scorers = []
    for named in table.scorers:
        if isinstance(named.scorer, CosineScorer):
            scorers.append(replace(named, scorer=EmbeddingsScorer(named.scorer, grading.environment)))
            continue
        panel = panels.get(named.name)
        if panel is None:
            scorers.append(named)
            continue
        several = sum(grader.votes for grader, _ in panel) > 1
        own = table.for_scorer(named)
        verdicts = []
        for grader, rubric in panel:
            by_request, report = ask(_requests(own, grader, rubric, grading), grading, several=several)
            verdicts.append(GraderVerdicts(grader, rubric, by_request, report))
        on_scale = any(grader.reader.scale is not None for grader, _ in panel)
        vote: Vote = grading.vote or ("mean" if on_scale else "majority")
        scorers.append(replace(named, scorer=GradedScorer(verdicts, vote)))
    return replace(table, scorers=scorers)


def scoring_costs(table: ScoredTable, grading: Grading, cost: CostOf) -> ScoringCosts:
    """Return what `grade` and its scorers of embeddings would cost; nothing is sent.

    Raises:
        InputError: a grader, or its rubric, does not fit the table.
        OutputError: the journal of a grader cannot be read.
    """
    panels = check_graders(table, grading)
    own = {named.name: table.for_scorer(named) for named in table.scorers}
    return ScoringCosts(
        [
            cost_of(_requests(own[name], grader, rubric, grading), table.source.name, cost)
            for name, panel in panels.items()
            for grader, rubric in panel
        ],
        [
            embeddings_cost(table, named, named.scorer.model)
            for named in table.scorers
            if isinstance(named.scorer, CosineScorer)
        ],
    )


def check_graders(table: ScoredTable, grading: Grading) -> dict[str, list[tuple[Grader, Rubric]]]:
    """Return the graders of each model-graded scorer with their rubrics, all checked, before any is asked.

    Raises:
        InputError: a grader, or its rubric, does not fit the table.
    """
    for named in table.scorers:
        if isinstance(named.scorer, CosineScorer):
            check_embeddings(named.scorer, grading.environment, grading.on_no_key)
    if grading.graders and not any(isinstance(named.scorer, ModelGradedScorer) for named in table.scorers):
        raise InputError(f"{grading.graders[0].where}: a grader requires --scorer model-graded")
    panels = [
        (table.for_scorer(named), named.name, grading.graders_of(named.scorer))
        for named in table.scorers
        if isinstance(named.scorer, ModelGradedScorer)
    ]
    by_name: dict[str, Grader] = {}
    for grader in (grader for *_, graders in panels for grader in graders):
        if by_name.setdefault(grader.name, grader) != grader:
            raise _same_name(grader)
    rubrics = {name: [(grader, _rubric(own, grader, grading)) for grader in graders] for own, name, graders in panels}
    if grading.context is not None and not any(rubric.uses_context for each in rubrics.values() for _, rubric in each):
        raise InputError(f"--context {grading.context}: no rubric uses a context; add --rubric faithfulness")
    return rubrics


def _rubric(table: ScoredTable, grader: Grader, grading: Grading) -> Rubric:
    return Rubric(
        grader.rubric,
        table.source.columns,
        where=grader.where,
        question=grader.question or grading.question,
        target=table.columns.target,
        context=grading.context or ("context" if grader.ready is not None else None),
        grade_line=grader.reader.grade_line(),
        grades=[] if grader.reader.scale is not None else list(grader.reader.choices),
    )


def reports_of(table: ScoredTable) -> list[GraderReport]:
    """Return the reports of a table's graders, one per grader."""
    scorers = [named.scorer for named in table.scorers if isinstance(named.scorer, GradedScorer)]
    return list({report.grader: report for scorer in scorers for report in scorer.reports}.values())


def _requests(table: ScoredTable, grader: Grader, rubric: Rubric, grading: Grading) -> Requests:
    """Return the requests about every answer of a table."""
    output = verdict_table(grading.beside or table.source.name, grader.name)
    return Requests(grader, output, lambda path: write_requests(path, table, grader, rubric))
