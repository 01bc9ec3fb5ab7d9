"""Asking a grader: its requests are a batch like any other, whose replies are the verdicts; or their price, unasked."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from batchrun.errors import GradingStopped, InputError, OutputHeld
from batchrun.job.environment import Environment
from batchrun.job.options import Job
from batchrun.records import Cells
from batchrun.scoring.grading.graded_scorer import GraderVerdict
from batchrun.scoring.grading.grader import Grader
from batchrun.scoring.grading.grader_report import GraderReport
from batchrun.scoring.grading.grading_cost import GradingCost, RequestCost
from batchrun.tables import ReadOptions, open_source, path_beside

if TYPE_CHECKING:
    from batchrun.batch.plan import Plan
    from batchrun.batch.run_summary import Summary

__all__ = ["CostOf", "Requests", "ask", "cost_of", "verdict_table"]

_WITH_REPLY: Final = ("completed", "incomplete")

CostOf: TypeAlias = Callable[[Job, Path, Path], RequestCost]
"""The cost of a job over a table of requests, given the output that has its earlier replies."""


class Asker(Protocol):
    """How batches of requests are run: `batchrun.scoring.grading.grading.Grading` has the attributes."""

    @property
    def environment(self) -> Environment:
        """The environment with the services' keys."""

    @property
    def run(self) -> Callable[[Plan], Summary]:
        """Runs a batch to its end and displays it."""

    @property
    def tell(self) -> Callable[[GraderReport], None] | None:
        """Receives the report; None for no one."""


@dataclass(frozen=True, slots=True)
class Requests:
    """A grader's requests, not written yet.

    Attributes:
        grader: who is asked.
        output: the table of the verdicts.
        write: writes the table of requests, and returns their number; without requests it leaves no file.
    """

    grader: Grader
    output: Path
    write: Callable[[Path], int]

    @property
    def job(self) -> Job:
        """The grader's job over its table of requests."""
        # The requests hold the rendered rubric, so a changed rubric or table shows in them and is always accepted.
        return replace(self.grader.job, prompt="{{ prompt }}", key="key", accept_changes=True)


def verdict_table(name: str, grader: str) -> Path:
    """Return the path of the verdicts on a table, `answers.csv.grader-NAME.csv`; their journal is next to it."""
    path = path_beside(name)
    return path.with_name(f"{path.name}.grader-{grader}.csv")


def cost_of(requests: Requests, table_name: str, cost: CostOf) -> GradingCost:
    """Return what it would cost to ask a grader; nothing is sent, and nothing is left next to the table.

    Args:
        table_name: what is graded, for people.
        cost: estimates a job.

    Raises:
        InputError: the grader's job cannot be planned.
        OutputError: its journal cannot be read.
    """
    grader = requests.grader
    with tempfile.TemporaryDirectory(prefix="batchrun-") as folder:
        table = Path(folder) / "requests.jsonl"
        if not requests.write(table):
            return GradingCost(grader.name, grader.job.model, table_name, RequestCost(0, 0, 0, 0, 0.0))
        try:
            return GradingCost(grader.name, grader.job.model, table_name, cost(requests.job, table, requests.output))
        except InputError as exc:
            raise InputError(f"{grader.where}: {exc}") from None


def ask(
    requests: Requests, asker: Asker, *, several: bool
) -> tuple[Mapping[str, Sequence[GraderVerdict]], GraderReport]:
    """Ask one grader all its requests, and return the verdicts by request, and the report.

    Args:
        asker: runs the batch.
        several: whether there is more than one verdict on each answer.

    Raises:
        GradingStopped, InputError, OutputError, OutputHeld: see `batchrun.scoring.grading.grading.grade`.
    """
    from batchrun.batch.lock import is_held
    from batchrun.batch.paths import paths_for
    from batchrun.batch.plan import make_plan

    grader, output = requests.grader, requests.output
    paths = paths_for(output)
    if is_held(paths.lock) and not grader.job.wait:
        raise OutputHeld(f"another scoring asks this grader (lock: {paths.lock}); score again after it has ended")
    table = output.with_name(output.name + ".input.jsonl")
    if not requests.write(table):
        return {}, GraderReport(grader.name, grader.job.model, 0, 0, 0, 0, 0, 0, 0, None, 0, None)
    try:
        plan = make_plan(requests.job, table, asker.environment, output)
        summary = asker.run(plan)
    except InputError as exc:
        raise InputError(f"{grader.where}: {exc}") from None
    if summary.stop is not None:
        raise GradingStopped(
            f"grader {grader.name} stopped: {summary.stop.reason}; the verdicts so far are kept in {paths.journal}; "
            "score again to continue: only the remaining answers are graded",
            exit_code=summary.stop.exit_code,
        )
    verdicts = _read_verdicts(output, grader, several=several)
    report = _report(grader, plan, summary, verdicts)
    if asker.tell is not None:
        asker.tell(report)
    return verdicts, report


def _read_verdicts(output: Path, grader: Grader, *, several: bool) -> dict[str, list[GraderVerdict]]:
    """Return the verdicts by request, from the output of the grader's batch."""
    verdicts: dict[str, list[GraderVerdict]] = {}
    for row in open_source(str(output), ReadOptions(encoding="utf-8", delimiter=",")).rows():
        verdicts.setdefault(row.values["request"], []).append(_verdict(row.values, grader, several=several))
    return verdicts


def _verdict(cells: Cells, grader: Grader, *, several: bool) -> GraderVerdict:
    text = cells["response"] or ""
    if cells["status"] not in _WITH_REPLY:
        return GraderVerdict(None, None, text, f"grader {grader.name} failed: {cells['error_type'] or cells['status']}")
    if cells["status"] == "incomplete":
        # The last line is missing, and no earlier line may be taken for it.
        return GraderVerdict(None, None, text, f"the verdict of grader {grader.name} was cut short")
    reading = grader.reader.read(text)
    prefix = f"{grader.name}: " if several else ""
    read = None if reading.read is None else prefix + reading.read
    reason = prefix + reading.reason if reading.reason else ""
    unread = f"the verdict of grader {grader.name} cannot be read: {grader.reader.expected()}"
    return GraderVerdict(reading.value, read, reason, unread)


def _report(
    grader: Grader, plan: Plan, summary: Summary, verdicts: Mapping[str, Sequence[GraderVerdict]]
) -> GraderReport:
    all_verdicts = [verdict for each in verdicts.values() for verdict in each]
    read = sum(verdict.value is not None for verdict in all_verdicts)
    failed = summary.totals.failed
    return GraderReport(
        grader=grader.name,
        model=plan.job.model,
        requests=summary.rows,
        asked=summary.rows - summary.statistics.finished_before - summary.statistics.from_cache,
        read=read,
        unread=len(all_verdicts) - read - failed,
        failed=failed,
        prompt_tokens=summary.totals.prompt_tokens,
        completion_tokens=summary.totals.completion_tokens,
        cost_usd=summary.totals.cost_usd,
        unpriced=0 if plan.destination.is_embedded else summary.totals.unpriced,
        table=summary.output,
    )
