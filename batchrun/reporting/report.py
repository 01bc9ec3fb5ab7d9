"""Report: an output table, with the journal next to it, as the data of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from batchrun.batch.paths import Paths, paths_for
from batchrun.batch.row_notes import RowNotes
from batchrun.clock import WallClock
from batchrun.errors import InputError
from batchrun.records import OUTPUT_COLUMNS
from batchrun.reporting.answer_fields import FoundFields, TableFields
from batchrun.reporting.batch_record import BatchRecord
from batchrun.reporting.columns_json import portions
from batchrun.reporting.compared import compared_parts, compared_tables, parts_of, score_values, with_split_as_axis
from batchrun.reporting.facts import figures
from batchrun.reporting.field_facts import field_facts, group_columns
from batchrun.reporting.noted_rows import note_facts
from batchrun.reporting.page_facts import (
    AnswerFacts,
    HeadFacts,
    NoteFacts,
    PageData,
    PageFacts,
    ScoreDetailFacts,
    page_facts,
)
from batchrun.reporting.rows import ReportRow, RowColumns, cells_of, row_json
from batchrun.reporting.score_details import labels_of, score_details
from batchrun.reporting.table_columns import ColumnNames, columns_of
from batchrun.scoring.evaluate import ScoringSpec
from batchrun.scoring.score_options import FailedAs
from batchrun.scoring.score_tally import ScoreTally
from batchrun.scoring.scorers.base import as_text
from batchrun.scoring.summary import ScoreSummary, clusters_of, summarize
from batchrun.scoring.table import ScoredTable
from batchrun.shell_hint import command
from batchrun.tables.table_options import without_ending

__all__ = [
    "Report",
    "answer_facts",
    "check_journal_alone",
    "check_page",
    "check_scoring",
    "default_report",
    "head",
    "make_report",
    "page_data",
    "report_of",
    "with_clusters",
    "with_labels",
]

_IN_MEMORY = "A table in memory has no journal: attempts, prompts and refusals are unknown."


@dataclass(frozen=True, slots=True)
class Report:
    """The data of a page.

    Attributes:
        facts: figures, as JSON.
        columns: columns of the page's table.
        rows: all rows, in the table's order.
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
    return output.with_name(f"{without_ending(output.name)}.report.html")


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
        by_urgency = sorted(shown, key=lambda position: (not _is_urgent(report.rows[position]), position))
        shown = sorted(by_urgency[:max_rows])
    return {
        "facts": report.facts,
        "row_notes": report.row_notes,
        "columns": report.columns.facts(),
        "shown": len(shown),
        "portions": list(
            portions([{"i": position, **row_json(report.rows[position], report.columns)} for position in shown])
        ),
    }


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
    rows: Sequence[ReportRow]
    rows, names = _rows_of(table, tally, for_comparison=baseline is not None or parts is not None)
    summaries = summarize(with_split_as_axis(tally, table.columns.split), failed_as)
    comparison, remarks = None, list[str]()
    if baseline is not None:
        rows, comparison = compared_tables(rows, table, tally, baseline, failed_as)
    elif parts is not None:
        rows, comparison, remarks = compared_parts(rows, table, tally, parts, failed_as)
    batch = BatchRecord(notes=[_IN_MEMORY]) if paths is None else BatchRecord.read(paths, len(rows))
    key = table.columns.key or (batch.key if batch.key in table.source.columns else None)
    rows = batch.join(_with_keys(rows, key))
    rows, fields = _with_fields(rows, FoundFields(table.source.columns, table.prefix, batch.fields))
    names = replace(names, fields=fields)
    columns = columns_of(table.source.columns, table.prefix, names, key, table.columns.target)
    notes = [*batch.notes, *remarks, *fields.notes()]
    answers = answer_facts(rows, columns, table.columns.by)
    facts = page_facts(head(table.source.name, clock), figures(rows, batch.cool_downs), answers, batch.facts, notes)
    if table.scorers:
        facts["scores"] = [each.facts() for each in summaries]
        facts["without_target"] = tally.failed_without_target()
        rows = with_clusters(with_labels(rows, facts["score_details"]), clusters_of(tally))
    if comparison is not None:
        facts["comparison"] = comparison
    row_notes = note_facts(RowNotes() if paths is None else RowNotes.read(paths.notes), rows)
    return Report(facts, columns, rows, summaries, row_notes)


def answer_facts(rows: Sequence[ReportRow], columns: RowColumns, by: Sequence[str]) -> AnswerFacts:
    """Return the figures of the answers' fields and the details of the scores.

    Args:
        by: columns of `--by`.
    """
    return {
        "fields": field_facts(rows, columns, group_columns(columns, by)),
        "score_details": score_details(rows, columns),
    }


def with_labels(rows: Sequence[ReportRow], details: Sequence[ScoreDetailFacts]) -> list[ReportRow]:
    """Return the rows with the labels of those scorers that have a confusion table."""
    kept = {each["scorer"] for each in details if each["confusion"] is not None}
    if all(row.compared.keys() <= kept for row in rows):
        return list(rows)
    return [replace(row, compared={name: pair for name, pair in row.compared.items() if name in kept}) for row in rows]


def with_clusters(rows: Sequence[ReportRow], clusters: Sequence[str] | None) -> list[ReportRow]:
    """Return the rows with the numbers of their clusters.

    Args:
        clusters: of the rows; None if all rows are independent.
    """
    if clusters is None:
        return list(rows)
    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    return [replace(row, cluster=numbers[cluster]) for row, cluster in zip(rows, clusters, strict=True)]


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
        raise InputError("--compare: pairs the rows of two tables; name their id column with --key COLUMN")


def _rows_of(table: ScoredTable, tally: ScoreTally, *, for_comparison: bool) -> tuple[list[ReportRow], ColumnNames]:
    answer = table.columns.answer or ""
    outputs = {answer, *(table.prefix + name for name in OUTPUT_COLUMNS)}
    rows = []
    for row, scores in table.scored(tally, for_comparison=for_comparison):
        rows.append(
            ReportRow(
                key=str(row.row_index),
                values={name: value for name, value in row.values.items() if name not in outputs},
                cells=cells_of(row.values, table.prefix, answer),
                scores=score_values(table, scores),
                reads={
                    named.name: None if score is None else score.read
                    for named, score in zip(table.scorers, scores, strict=True)
                },
                compared=labels_of([named.name for named in table.scorers], scores),
            )
        )
    return rows, ColumnNames(answer, [named.name for named in table.scorers])


def _with_keys(rows: Sequence[ReportRow], key: str | None) -> Sequence[ReportRow]:
    """Return the rows with the cells of the key column as their keys."""
    return rows if key is None else [replace(row, key=as_text(row.values.get(key))) for row in rows]


def _with_fields(rows: Sequence[ReportRow], found: FoundFields) -> tuple[list[ReportRow], TableFields]:
    """Return the rows with the fields of their answers, and the columns with fields."""
    with_fields = [replace(row, fields=fields) if (fields := found.read(row.cells)) else row for row in rows]
    return with_fields, found.columns()
