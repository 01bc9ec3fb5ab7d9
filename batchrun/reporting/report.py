"""Report: an output table, with the journal next to it, as the data of a page."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from batchrun.batch.paths import Paths, paths_for
from batchrun.batch.row_notes import RowNotes
from batchrun.clock import WallClock
from batchrun.errors import InputError
from batchrun.journal.live import CoolDown
from batchrun.records import OUTPUT_COLUMNS
from batchrun.reporting.answer_fields import FoundFields
from batchrun.reporting.batch_record import BatchRecord
from batchrun.reporting.columns_json import portions
from batchrun.reporting.compared import compared_parts, compared_tables, parts_of, score_values, with_split_as_axis
from batchrun.reporting.facts import RowFigures
from batchrun.reporting.field_facts import FieldFigures, group_columns
from batchrun.reporting.noted_rows import note_facts
from batchrun.reporting.page_facts import (
    AnswerFacts,
    HeadFacts,
    NoteFacts,
    PageData,
    PageFacts,
    ScoreDetailFacts,
    TableFigures,
    page_facts,
)
from batchrun.reporting.rows import ReportRow, RowColumns, cells_of, row_json
from batchrun.reporting.score_details import ScoreFigures, labels_of
from batchrun.reporting.stored_rows import StoredRows
from batchrun.reporting.table_columns import ColumnNames, columns_of
from batchrun.scoring.evaluate import ScoringSpec
from batchrun.scoring.score_options import FailedAs
from batchrun.scoring.score_tally import ScoreTally
from batchrun.scoring.scorers.base import as_text
from batchrun.scoring.summary import ScoreSummary, clusters_of, summarize
from batchrun.scoring.table import ScoredTable
from batchrun.shell_hint import command
from batchrun.tables import path_beside
from batchrun.tables.table_options import without_ending

__all__ = [
    "AnswerFigures",
    "Report",
    "check_journal_alone",
    "check_page",
    "check_scoring",
    "cluster_numbers",
    "default_report",
    "figures_of",
    "head",
    "make_report",
    "page_data",
    "report_of",
]

_IN_MEMORY = "A table in memory has no journal: attempts, prompts and refusals are unknown."


@dataclass(frozen=True, slots=True)
class Report:
    """The data of a page.

    Attributes:
        facts: figures, as JSON.
        columns: columns of the page's table.
        rows: all rows, in the table's order, each read when it is asked for.
        summaries: the figures of each scorer, as in `facts`.
        row_notes: what people noted about the rows.
    """

    facts: PageFacts
    columns: RowColumns
    rows: Sequence[ReportRow]
    summaries: Sequence[ScoreSummary] = ()
    row_notes: NoteFacts = field(default_factory=lambda: note_facts(RowNotes(), ()))


def default_report(output: Path) -> Path:
    """Return the default path of a report: `answers.csv` → `answers.report.html`, next to it."""
    # An output may be missing while its journal exists, and its name may look like a pattern.
    path = output if Path(f"{output}.journal").exists() else path_beside(str(output))
    return path.with_name(f"{without_ending(path.name)}.report.html")


def check_page(path: Path) -> None:
    """Check that a page does not replace a table or a journal.

    Raises:
        InputError: the name does not end in .html or .htm.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--output {str(path)!r}: expected a name that ends in .html, since the output is a page")


def page_data(report: Report, max_rows: int | None = None) -> PageData:
    """Return a report as JSON.

    Args:
        max_rows: maximum number of rows to show; figures cover all rows. Failed and flipped rows are chosen first, and
            the order is kept. None shows all rows.
    """
    shown: Sequence[int] = range(len(report.rows))
    if max_rows is not None and len(report.rows) > max_rows:
        shown = _most_urgent(report.rows, max_rows)
    return {
        "facts": report.facts,
        "row_notes": report.row_notes,
        "columns": report.columns.facts(),
        "shown": len(shown),
        "portions": list(
            portions([{"i": position, **row_json(report.rows[position], report.columns)} for position in shown])
        ),
    }


def _most_urgent(rows: Sequence[ReportRow], most: int) -> list[int]:
    """Return the positions of at most so many rows: the first urgent ones, then the first of the others, in order."""
    urgent, others = array("q"), array("q")
    for position, row in enumerate(rows):
        chosen = urgent if _is_urgent(row) else others
        if len(chosen) < most:
            chosen.append(position)
    return sorted([*urgent, *others[: most - len(urgent)]])


def _is_urgent(row: ReportRow) -> bool:
    return row.before is not None or row.cells["status"] not in ("completed", "pending", "skipped")


def make_report(output: Path, spec: ScoringSpec, *, baseline: str | None = None, clock: WallClock) -> Report:
    """Read a table of answers with the journal next to it, and score it if the spec has scorers.

    Args:
        output: the table.
        spec: how to score it.
        baseline: table that it is compared with; None for no comparison.
        clock: clock for the time of the report.

    Raises:
        InputError: an argument or a table cannot be used.
        OutputError: the journal cannot be read.
    """
    check_scoring(spec, baseline)
    paths = paths_for(output)
    check_journal_alone(paths)
    table = spec.open(str(output), may_lack_scorers=True)
    other = None if baseline is None else spec.open(baseline, may_lack_scorers=True)
    return report_of(table, other, spec.failed_as, clock, paths)


def check_journal_alone(paths: Paths) -> None:
    """Check that a journal has its table next to it.

    Raises:
        InputError: there is only a journal.
    """
    if not paths.output.exists() and paths.journal.exists():
        raise InputError(
            f"{paths.output}: there is a journal but no table yet; {command('export', paths.output)} writes the rows "
            f"so far, and {command('view', paths.output)} shows the batch while it runs"
        )


def report_of(
    table: ScoredTable, baseline: ScoredTable | None, failed_as: FailedAs, clock: WallClock, paths: Paths | None
) -> Report:
    """Read a table of answers, and score it if it has scorers.

    Args:
        baseline: table that it is compared with; None for no comparison.
        failed_as: how failed rows count.
        clock: clock for the time of the report.
        paths: the files of its batch; None for a table in memory.

    Raises:
        InputError: a table cannot be read or scored.
        OutputError: the journal cannot be read.
    """
    tally = ScoreTally()
    table, parts = parts_of(table)
    parts = None if baseline is not None else parts
    with BatchRecord.read(paths) if paths is not None else nullcontext(BatchRecord([_IN_MEMORY])) as batch:
        key = table.columns.key or (batch.key if batch.key in table.source.columns else None)
        found = FoundFields(table.source.columns, table.prefix, batch.fields)
        for_comparison = baseline is not None or parts is not None
        rows, names = _rows_of(table, tally, key, batch, found, for_comparison=for_comparison)
        rows.has_records = batch.is_complete(len(rows))
    summaries = summarize(with_split_as_axis(tally, table.columns.split), failed_as)
    comparison, remarks = None, list[str]()
    if baseline is not None:
        rows.before, comparison = compared_tables(table, tally, baseline, failed_as)
    elif parts is not None:
        rows.before, comparison, remarks = compared_parts(rows, table, tally, parts, failed_as)
    fields = found.columns()
    columns = columns_of(table.source.columns, table.prefix, replace(names, fields=fields), key, table.columns.target)
    of_rows, answers = figures_of(rows, columns, table.columns.by, batch.cool_downs)
    notes = [*batch.notes, *remarks, *fields.notes()]
    facts = page_facts(head(table.source.name, clock), of_rows, answers, batch.facts, notes)
    if table.scorers:
        facts["scores"] = [each.facts() for each in summaries]
        facts["without_target"] = tally.failed_without_target()
        rows.labelled = with_confusion(facts["score_details"])
        rows.clusters = cluster_numbers(clusters_of(tally))
    if comparison is not None:
        facts["comparison"] = comparison
    row_notes = note_facts(RowNotes() if paths is None else RowNotes.read(paths.notes), rows)
    return Report(facts, columns, rows, summaries, row_notes)


def figures_of(
    rows: Iterable[ReportRow],
    columns: RowColumns,
    by: Sequence[str],
    cool_downs: Sequence[CoolDown] | None = None,
) -> tuple[TableFigures, AnswerFacts]:
    """Return the figures of the rows and of their answers, in one pass.

    Args:
        by: columns of `--by`.
        cool_downs: oldest first; None if they were not recorded.
    """
    of_rows, answers = RowFigures(), AnswerFigures(columns, by)
    for row in rows:
        of_rows.add(row)
        answers.add(row)
    return of_rows.facts(cool_downs), answers.facts()


class AnswerFigures:
    """The figures of the answers' fields and the details of the scores, from rows that are added one by one.

    Mutable state: the counts and numbers of its parts.
    """

    def __init__(self, columns: RowColumns, by: Sequence[str]) -> None:
        """
        Args:
            by: columns of `--by`.
        """
        self._fields = FieldFigures(columns, group_columns(columns, by))
        self._scores = ScoreFigures(columns)

    def add(self, row: ReportRow) -> None:
        """Count a row."""
        self._fields.add(row)
        self._scores.add(row)

    def facts(self) -> AnswerFacts:
        """Return the figures."""
        return {"fields": self._fields.facts(), "score_details": self._scores.facts()}


def with_confusion(details: Sequence[ScoreDetailFacts]) -> set[str]:
    """Return the scorers that have a confusion table; the page shows the labels of no others."""
    return {each["scorer"] for each in details if each["confusion"] is not None}


def cluster_numbers(clusters: Sequence[str] | None) -> Sequence[int] | None:
    """Return the number of each row's cluster, in order of first occurrence; None if all rows are independent."""
    if clusters is None:
        return None
    numbers: dict[str, int] = {}
    return array("q", (numbers.setdefault(cluster, len(numbers)) for cluster in clusters))


def head(name: str, clock: WallClock) -> HeadFacts:
    """Return the facts that every page begins with."""
    return {"table": Path(name).name, "path": name, "made_at": clock().isoformat(timespec="seconds")}


def check_scoring(spec: ScoringSpec, baseline: str | None = None) -> None:
    """Check that options of scoring come with a scorer, and a comparison with a key column.

    Raises:
        InputError: an option is missing.
    """
    if not spec.scorers:
        for option, given in (
            ("--target", spec.columns.target),
            ("--by", spec.columns.by),
            ("--cluster", spec.columns.cluster),
            ("--split", spec.columns.split),
            ("--compare", baseline),
        ):
            if given:
                raise InputError(f"{option}: is an option of scoring: add --scorer, as in --scorer numeric")
    if baseline is not None and spec.columns.split is not None:
        raise InputError("--split: compares the parts of one table, --compare two tables: leave one of them out")
    if baseline is not None and spec.columns.key is None:
        raise InputError("--compare: pairs rows by id, not by position; name their id column with --key COLUMN")


def _rows_of(
    table: ScoredTable,
    tally: ScoreTally,
    key: str | None,
    batch: BatchRecord,
    found: FoundFields,
    *,
    for_comparison: bool,
) -> tuple[StoredRows, ColumnNames]:
    """Score the table, and store its rows with what the journal records about them.

    Args:
        key: column with row ids; None numbers the rows.
        found: gets the fields of all answers.
    """
    answer = table.columns.answer or ""
    outputs = {answer, *(table.prefix + name for name in OUTPUT_COLUMNS)}
    scorers = [named.name for named in table.scorers]
    rows = StoredRows()
    for row, scores in table.scored(tally, for_comparison=for_comparison):
        cells = cells_of(row.values, table.prefix, answer)
        rows.append(
            ReportRow(
                key=str(row.row_index) if key is None else as_text(row.values.get(key)),
                values={name: value for name, value in row.values.items() if name not in outputs},
                cells=cells,
                scores=score_values(table, scores),
                reads={
                    name: None if score is None else score.read for name, score in zip(scorers, scores, strict=True)
                },
                compared=labels_of(scorers, scores),
                fields=found.read(cells),
            ),
            batch.next(cells["completed_at"]),
        )
    return rows, ColumnNames(answer, scorers)
