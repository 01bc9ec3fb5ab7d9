"""An output table, with what lies beside it, as everything that a page shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from batchrun.batch.lock import is_held
from batchrun.batch.paths import Paths, paths_for
from batchrun.batch.recorded_input import recorded_source
from batchrun.batch.results import prompts_of
from batchrun.clock import WallClock
from batchrun.errors import InputError, OutputError
from batchrun.journal.live import CoolDown, FollowedJournal, RecordedAttempt, RecordedRun
from batchrun.prompts.templates import PromptError, prompter_of
from batchrun.records import OUTPUT_COLUMNS, Row
from batchrun.report.columns_json import portions
from batchrun.report.facts import batch_facts
from batchrun.report.rows import Column, ReportRow, RowColumns, cells_of, row_json
from batchrun.scoring.comparison import Comparison, compare
from batchrun.scoring.contender import Contender, contender
from batchrun.scoring.evaluate import ScoringSpec
from batchrun.scoring.score_facts import ComparisonFacts
from batchrun.scoring.score_options import FailedAs
from batchrun.scoring.score_tally import ScoreTally
from batchrun.scoring.scorers.base import Score, as_text
from batchrun.scoring.summary import summarize
from batchrun.scoring.table import ScoredTable, open_scored

__all__ = [
    "Named",
    "Report",
    "batch_of",
    "check_page",
    "check_question",
    "columns_of",
    "default_report",
    "head",
    "make_report",
    "page_data",
]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a page shows.

    Attributes:
        facts: figures, JSON.
        columns: of its table.
        rows: all rows, in the table's order.
    """

    facts: Mapping[str, Any]
    columns: RowColumns
    rows: Sequence[ReportRow]


def default_report(output: Path) -> Path:
    """Where a report goes if nobody says: `answers.csv` → `answers.report.html`, beside it."""
    return output.with_name(f"{output.name.removesuffix('.gz').rpartition('.')[0] or output.name}.report.html")


def check_page(path: Path) -> None:
    """A page never takes the place of a table or a journal.

    Raises:
        InputError: the name is not that of a page.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"-o {path}: a page is written, so a name that ends in .html is expected")


def page_data(report: Report, most_rows: int | None = None) -> dict[str, Any]:
    """A report as JSON.

    Args:
        most_rows: rows to show; figures are over all of them. Failed and flipped rows come first to be chosen, the
            order stays. None for all.
    """
    shown: Sequence[int] = range(len(report.rows))
    if most_rows is not None and len(report.rows) > most_rows:
        by_urgency = sorted(shown, key=lambda position: (not _is_urgent(report.rows[position]), position))
        shown = sorted(by_urgency[:most_rows])
    return {
        "facts": report.facts,
        "columns": report.columns.facts(),
        "shown": len(shown),
        "portions": list(
            portions([{"i": position, **row_json(report.rows[position], report.columns)} for position in shown])
        ),
    }


def _is_urgent(row: ReportRow) -> bool:
    return row.before is not None or row.cells["status"] not in ("completed", "pending")


def make_report(
    output: Path,
    question: ScoringSpec,
    *,
    baseline: str | None = None,
    clock: WallClock,
) -> Report:
    """Read a table of answers, score it if that is asked, and look at the journal beside it.

    Args:
        output: the table.
        question: how to score it; without scorers it is not scored.
        baseline: the table that it is compared with.
        clock: says when the report is made.

    Raises:
        InputError: what was given cannot be used.
        OutputError: the journal cannot be read.
    """
    check_question(question, baseline)
    name = str(output)
    paths = paths_for(output)
    if not output.exists() and paths.journal.exists():
        raise InputError(
            f"{name}: there is a journal, but no table yet; batchrun export {name} writes it as far as it goes, and "
            f"batchrun view {name} shows the batch while it runs"
        )
    table = _open(name, question)
    tally = ScoreTally()
    rows, compared_by = _rows_of(table, tally, compared=baseline is not None)
    facts: dict[str, Any] = {}
    if table.scorers:
        facts["scores"] = [each.facts() for each in summarize(tally, question.failed_as)]
    if baseline is not None:
        rows, facts["comparison"] = _compared(rows, table, tally, _open(baseline, question), question.failed_as)
    batch = _Beside.read(paths, len(rows))
    rows = batch.join(rows)
    key = table.columns.key or batch.key
    return Report(
        {
            **head(name, clock),
            **batch_facts(rows, batch.cool_downs),
            **facts,
            "batch": batch.facts,
            "notes": list(batch.notes),
        },
        columns_of(table.source.columns, table.prefix, compared_by, key, table.columns.target),
        rows,
    )


def head(name: str, clock: WallClock) -> dict[str, Any]:
    """What every page begins with."""
    return {"table": Path(name).name, "path": name, "made_at": clock().isoformat(timespec="seconds")}


def check_question(question: ScoringSpec, baseline: str | None = None) -> None:
    """What says how to score goes with a scorer, and a comparison with a key.

    Raises:
        InputError: it does not.
    """
    if not question.scorers:
        for option, given in (
            ("--target", question.columns.target),
            ("--by", question.columns.by),
            ("--cluster", question.columns.cluster),
            ("--compare", baseline),
        ):
            if given:
                raise InputError(f"{option}: says how to score: add --scorer, as in --scorer numeric")
    if baseline is not None and question.columns.key is None:
        raise InputError("--compare: pairs the rows of two tables: say --key COLUMN")


def _open(name: str, question: ScoringSpec) -> ScoredTable:
    return question.open(name) if question.scorers else open_scored(name, (), question.columns, question.read)


@dataclass(frozen=True, slots=True)
class Named:
    """Names of the column of answers and of the scorers."""

    answer: str
    scorers: Sequence[str] = ()


def columns_of(
    listed: Sequence[str], prefix: str, names: Named, key: str | None = None, target: str | None = None
) -> RowColumns:
    """The columns of a table: its own, those of batchrun, and those of scores behind the status.

    Args:
        listed: names of the table's columns.
        prefix: what stands before the names of the output columns.
        names: of the column of answers and of the scorers.
        key, target: the table's own columns that mean that.
    """
    outputs = {(names.answer if name == "response" else prefix + name): name for name in OUTPUT_COLUMNS}
    found = [Column(name, "output", outputs[name]) if name in outputs else Column(name, "own", name) for name in listed]
    if all(column.key != "status" or column.role != "output" for column in found):
        found.append(Column(prefix + "status", "output", "status"))  # which is told by the answer
    status = next(place for place, column in enumerate(found) if (column.role, column.key) == ("output", "status"))
    scores = [
        column
        for scorer in names.scorers
        for column in (Column(f"score_{scorer}", "score", scorer), Column(f"score_{scorer}_read", "read", scorer))
    ]
    return RowColumns([*found[: status + 1], *scores, *found[status + 1 :]], key, target)


def _rows_of(table: ScoredTable, tally: ScoreTally, *, compared: bool) -> tuple[list[ReportRow], Named]:
    answer = table.columns.answer or ""
    outputs = {answer, *(table.prefix + name for name in OUTPUT_COLUMNS)}
    rows = []
    for row, scores in table.scored(tally, for_comparison=compared):
        key = str(row.row_index) if table.columns.key is None else as_text(row.values[table.columns.key])
        rows.append(
            ReportRow(
                key=key,
                values={name: value for name, value in row.values.items() if name not in outputs},
                cells=cells_of(row.values, table.prefix, answer),
                scores=_values(table, scores),
                reads={
                    named.name: None if score is None else score.read
                    for named, score in zip(table.scorers, scores, strict=True)
                },
            )
        )
    return rows, Named(answer, [named.name for named in table.scorers])


def _values(table: ScoredTable, scores: Sequence[Score | None]) -> dict[str, float | None]:
    return {
        named.name: None if score is None else score.value for named, score in zip(table.scorers, scores, strict=True)
    }


# -- comparison -----------------------------------------------------------------------------------------------


def _compared(
    rows: Sequence[ReportRow], table: ScoredTable, tally: ScoreTally, baseline: ScoredTable, failed_as: FailedAs
) -> tuple[list[ReportRow], ComparisonFacts]:
    """The rows, those that flipped with what they were before, and the comparison's facts."""
    tally_before = ScoreTally()
    answered: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row, scores in baseline.scored(tally_before, for_comparison=True):
        answered[_key(baseline, row)].append(
            {
                "response": as_text(row.values[baseline.columns.answer or ""]),
                "scores": _values(baseline, scores),
            }
        )
    before: Contender = contender(baseline, failed_as, tally_before)
    found: Comparison = compare([before, contender(table, failed_as, tally)], failed_as)
    places: dict[str, list[int]] = defaultdict(list)
    for position, key in enumerate(tally.keys):
        places[key].append(position)
    facts = found.facts()
    flipped: dict[int, dict[str, Any]] = {}
    for pairing in facts["pairings"]:
        pairing["better_rows"] = [position for key in pairing["better"] for position in places[key]]
        pairing["worse_rows"] = [position for key in pairing["worse"] for position in places[key]]
        for key in (*pairing["better"], *pairing["worse"]):
            flipped.update(zip(places[key], answered[key], strict=False))
    return [
        replace(row, before=flipped[position]) if position in flipped else row for position, row in enumerate(rows)
    ], facts


def _key(table: ScoredTable, row: Row) -> str:
    return as_text(row.values[table.columns.key or ""])


# -- the journal beside the table -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Known:
    """What a journal knows of a row of the table."""

    row_key: str
    asked: str | None
    spoken: Sequence[RecordedRun]
    tries: Sequence[RecordedAttempt]
    completed_at: str | None


@dataclass(frozen=True, slots=True)
class _Beside:
    """What the journal beside a table adds to it.

    Attributes:
        facts: of the batch; None without a journal.
        known: of each row, in the table's order; empty where it cannot be told.
        key: the batch's key column.
        notes: why something is not shown, a line each.
        cool_downs: oldest first; None where nobody recorded them.
    """

    facts: dict[str, Any] | None = None
    known: Sequence[_Known] = ()
    key: str | None = None
    notes: Sequence[str] = field(default_factory=list)
    cool_downs: Sequence[CoolDown] | None = None

    @classmethod
    def read(cls, paths: Paths, rows: int) -> _Beside:
        """Read the journal, if there is one.

        Raises:
            OutputError: it is there, and cannot be read.
        """
        if not paths.journal.exists():
            return cls(notes=["No journal lies beside the table: tries, prompts and refusals are not known."])
        with FollowedJournal(paths.journal) as journal:
            manifest = journal.read_manifest()
            facts = batch_of(manifest, paths, journal.spent_usd())
            cool_downs = journal.cool_downs()
            notes = []
            if facts["running"]:
                notes.append("The batch is running: the table is as of its last export.")
            try:
                known = cls._known(journal, manifest, paths)
            except (InputError, OutputError) as error:
                notes.append(f"Prompts and tries are not shown: {error}.")
                return cls(facts, (), manifest.get("key"), notes, cool_downs)
        if len(known) != rows:
            notes.append(f"Prompts and tries are not shown: the table has {rows:,} rows, its input {len(known):,}.")
            known = []
        return cls(facts, known, manifest.get("key"), notes, cool_downs)

    @staticmethod
    def _known(journal: FollowedJournal, manifest: Mapping[str, Any], paths: Paths) -> list[_Known]:
        source, _ = recorded_source(manifest, paths.spool)
        prompter = prompter_of(manifest, source.columns)
        tries, spoken, ended = journal.all_attempts(), journal.all_runs(), journal.ended_at()
        return [
            _Known(
                row_key,
                None if isinstance(prompt, PromptError) else prompt.first.text,
                spoken.get(row_key, ()),
                tries.get(row_key, ()),
                ended.get(row_key),
            )
            for row_key, _, prompt in prompts_of(source, prompter)
        ]

    def join(self, rows: Sequence[ReportRow]) -> list[ReportRow]:
        """The rows with their prompts and tries; a row that has ended otherwise since stays as the table has it."""
        if not self.known:
            return list(rows)
        return [
            replace(row, key=known.row_key, asked=known.asked, spoken=known.spoken, tries=known.tries)
            if _same_moment(row.cells["completed_at"], known.completed_at)
            else row
            for row, known in zip(rows, self.known, strict=True)
        ]


def _same_moment(one: str | None, other: str | None) -> bool:
    if one == other:
        return True
    if one is None or other is None:
        return False
    try:
        return datetime.fromisoformat(one) == datetime.fromisoformat(other)
    except (ValueError, TypeError):
        return False


def batch_of(manifest: Mapping[str, Any], paths: Paths, spent_usd: float) -> dict[str, Any]:
    """What a journal says of its batch as a whole."""
    settings = manifest["settings"]
    return {
        "batch_id": manifest["batch_id"],
        "created_at": manifest["created_at"],
        "running": is_held(paths.lock),
        "input": None if manifest["input"] is None else Path(manifest["input"]).name,
        "model": settings.get("model"),
        "api": settings.get("api"),
        "embedded": settings["embedded"],
        "base_url": manifest.get("base_url"),
        "prompt": settings.get("prompt"),
        "instructions": settings.get("instructions"),
        "limits": manifest.get("limits"),
        "spent_usd": spent_usd or None,
    }
