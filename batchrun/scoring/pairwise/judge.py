"""A judge compares the answers of two tables row by row, each pair in both orders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from batchrun.errors import InputError
from batchrun.records import JsonDict
from batchrun.scoring.grading.asking import CostOf, Requests, ask, cost_of
from batchrun.scoring.grading.grader import Grader
from batchrun.scoring.grading.grader_report import GraderReport
from batchrun.scoring.grading.grading import Grading
from batchrun.scoring.grading.grading_cost import ScoringCosts
from batchrun.scoring.grading.requests import request_id
from batchrun.scoring.grading.rubric import Rubric, RubricError
from batchrun.scoring.grading.verdicts import Reader
from batchrun.scoring.pairwise.contestants import Contest, contests
from batchrun.scoring.pairwise.pair_rubric import PAIR_CHOICES, pair_rubric, pair_sample
from batchrun.scoring.pairwise.preferences import JudgedPair, Preferences, preferences
from batchrun.scoring.score_options import ScoreOptions
from batchrun.scoring.scorers.base import Sample
from batchrun.scoring.table import ScoredTable
from batchrun.tables import path_beside
from batchrun.tables.atomic import replacing
from batchrun.tables.values import json_text

__all__ = ["Judged", "check_judged", "judge_costs", "judge_of", "judged", "replies_path"]

_NOT_FOR_JUDGES: Final = (
    "scorer",
    "grader",
    "grader_model",
    "rubric",
    "context",
    "vote",
    "failed_as",
    "cluster",
    "by",
    "ignore",
)
"""Options of `compare` that say how scores are made or compared."""

_ORDERS: Final = (False, True)
"""Whether the second answer is shown first."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Two tables that a judge has compared.

    Attributes:
        contest: the tables, with the counts of the rows that are not judged.
        found: the preferences over the pairs that were judged in both orders.
        unjudged: reason → pairs without a readable verdict in each order.
        report: counts and costs of the judge.
    """

    contest: Contest
    found: Preferences
    unjudged: Mapping[str, int]
    report: GraderReport


def check_judged(options: ScoreOptions) -> None:
    """Check that no option of scores is given to a judge.

    Raises:
        InputError: one is.
    """
    if unused := [name for name in _NOT_FOR_JUDGES if getattr(options, name) not in ((), None, "skip")]:
        raise InputError(f"--judge compares the answers themselves: --{unused[0].replace('_', '-')} has no effect")


def judge_of(name: str, grading: Grading) -> Grader:
    """Return the judge of `--judge`: a model's name, or a job file.

    Raises:
        InputError: the file cannot be used, its grades are not those of a judge, or its service cannot be reached.
    """
    if name.endswith(".toml"):
        if grading.load is None:
            raise InputError(f"--judge {name}: expected the name of a model")
        judge = grading.load(Path(name))
        own = judge.reader
        if (
            judge.ready not in (None, "correctness")
            or own.scale is not None
            or set(own.choices) != set(Reader().choices)
        ):
            raise InputError(f"{judge.where}: grader: a judge prefers A, B or TIE; remove rubric, choices and scale")
    else:
        judge = Grader.of_model(name, {}, f"--judge {name}")
    grading.check(judge)
    return replace(judge, reader=replace(judge.reader, choices=PAIR_CHOICES))


def judged(tables: Sequence[ScoredTable], judge: Grader, grading: Grading, baseline: str | None = None) -> list[Judged]:
    """Ask a judge about every pair of tables, or of the parts of one.

    Raises:
        InputError: the tables cannot be compared, or the rubric does not fit them.
        GradingStopped, OutputError, OutputHeld: as for `batchrun.scoring.grading.grading.grade`.
    """
    rubric = _rubric(tables[0], judge, grading)
    return [_judged(tables, contest, judge, rubric, grading) for contest in contests(tables, baseline)]


def judge_costs(
    tables: Sequence[ScoredTable], judge: Grader, grading: Grading, cost: CostOf, baseline: str | None = None
) -> ScoringCosts:
    """Return what `judged` would cost; nothing is sent."""
    rubric = _rubric(tables[0], judge, grading)
    found = [(each, _requests(tables, each, judge, rubric, grading)) for each in contests(tables, baseline)]
    return ScoringCosts([cost_of(asked, f"{each.second} against {each.first}", cost) for each, asked in found])


def _rubric(table: ScoredTable, judge: Grader, grading: Grading) -> Rubric:
    return pair_rubric(
        judge.rubric if judge.ready is None else None,
        table.source.columns,
        where=judge.where,
        question=judge.question or grading.question,
        target=table.columns.target,
        grade_line=judge.reader.grade_line(),
    )


def _requests(
    tables: Sequence[ScoredTable], contest: Contest, judge: Grader, rubric: Rubric, grading: Grading
) -> Requests:
    output = replies_path(judge.name, contest, [each.source.name for each in tables], grading.beside)
    return Requests(judge, output, lambda path: _write(path, contest, judge, rubric))


def replies_path(judge: str, contest: Contest, tables: Sequence[str], beside: str | None = None) -> Path:
    """Return the table with a judge's replies; each pair of tables, or of parts of one, has its own.

    Args:
        tables: names of all tables.
        beside: file next to which it is; None for the first table.
    """
    names = [contest.first, contest.second]
    if len(tables) > 1:
        stems = {each: Path(each).stem for each in tables}
        is_unique = len(set(stems.values())) == len(stems)
        names = [stems[each] if is_unique else each for each in names if each != tables[0]]
    # Parts of a table, and tables, have names that may be paths.
    ending = "-".join(re.sub(r"[^\w.-]+", "-", each).strip("-.") or "empty" for each in (judge, *names))
    first = path_beside(beside or tables[0])
    return first.with_name(f"{first.name}.judge-{ending}.csv")


def _prompts(rubric: Rubric, one: Sample, other: Sample) -> list[str]:
    """Return the prompts of a pair in both orders.

    Raises:
        RubricError: the rubric cannot be rendered for this row.
    """
    first, second = one.answer, other.answer
    return [rubric.render(pair_sample(one, *((second, first) if swapped else (first, second)))) for swapped in _ORDERS]


def _write(path: Path, contest: Contest, judge: Grader, rubric: Rubric) -> int:
    """Write the table of requests, and return their number; equal requests are written once."""
    written: set[str] = set()
    with ExitStack() as stack:
        file = stack.enter_context(replacing(path, mode=0o600))
        for line in _lines(contest, judge, rubric, written):
            # A lone surrogate has no UTF-8; its backslash escape is also its JSON escape.
            file.write(f"{json_text(line)}\n".encode("utf-8", "backslashreplace"))
    if not written:
        path.unlink()
    return len(written) * judge.votes


def _lines(contest: Contest, judge: Grader, rubric: Rubric, written: set[str]) -> Iterator[JsonDict]:
    for key, (one, other) in contest.pairs.items():
        try:
            prompts = _prompts(rubric, one, other)
        except RubricError:
            continue  # counted with its reason when the verdicts are read
        for swapped, prompt in zip(_ORDERS, prompts, strict=True):
            request = request_id(judge.job, prompt)
            if request in written:
                continue
            written.add(request)
            shown = contest.second if swapped else contest.first
            row = {"row_index": one.row_index, "row_key": key.key, "shown_first": shown}
            for vote in range(1, judge.votes + 1):
                yield {"key": f"{request}-{vote}", "request": request, **row, "prompt": prompt}


def _judged(tables: Sequence[ScoredTable], contest: Contest, judge: Grader, rubric: Rubric, grading: Grading) -> Judged:
    verdicts, report = ask(_requests(tables, contest, judge, rubric, grading), grading, several=judge.votes > 1)
    pairs: list[JudgedPair] = []
    unjudged: Counter[str] = Counter()
    for key, (one, other) in contest.pairs.items():
        try:
            asked = [verdicts[request_id(judge.job, prompt)] for prompt in _prompts(rubric, one, other)]
        except RubricError as exc:
            unjudged[str(exc)] += 1
            continue
        values = [[each.value for each in some if each.value is not None] for some in asked]
        if not all(values):
            unread = next(some for some, read in zip(asked, values, strict=True) if not read)
            unjudged[unread[0].problem] += 1
            continue
        as_shown, swapped = (sum(some) / len(some) for some in values)
        pairs.append(JudgedPair(key.key, as_shown, 1 - swapped, (len(one.answer), len(other.answer))))
    return Judged(contest, preferences(pairs), unjudged, report)
