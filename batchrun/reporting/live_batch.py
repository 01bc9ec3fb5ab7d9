"""FollowedBatch: the rows of a batch while it runs, read from its journal."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from batchrun.batch.added_columns import AddedColumns, recorded_columns
from batchrun.batch.left_shards import take_in
from batchrun.batch.lock import is_held
from batchrun.batch.paths import paths_for
from batchrun.batch.recorded_input import recorded_source
from batchrun.batch.results import UNASKED, prompts_of
from batchrun.batch.row_notes import Rating
from batchrun.batch.selection import Selection, recorded_selection, selected_cells
from batchrun.clock import WallClock
from batchrun.errors import InputError
from batchrun.journal import manifest_of
from batchrun.journal.live import Changes, FollowedJournal, RecordedAttempt
from batchrun.prompts.rendering_version import prompter_of
from batchrun.prompts.templates import PromptError
from batchrun.records import JsonDict, Row
from batchrun.reporting.answer_fields import FoundFields, TableFields
from batchrun.reporting.batch_record import batch_facts
from batchrun.reporting.columns_json import packed
from batchrun.reporting.live_rows import LiveRows, ShownRows, needs_attention
from batchrun.reporting.live_scores import LiveScores
from batchrun.reporting.noted_rows import NotedRows
from batchrun.reporting.page_facts import News, PageFacts, page_facts
from batchrun.reporting.report import check_scoring, cluster_numbers, figures_of, head
from batchrun.reporting.rows import ReportRow, RowColumns, asked, pending_cells, row_json
from batchrun.reporting.score_details import labels_of
from batchrun.reporting.table_columns import ColumnNames, columns_of
from batchrun.scoring.evaluate import ScoringSpec

__all__ = ["FollowedBatch"]

MOST_ROWS: Final = 100_000
"""Default maximum number of rows on the page."""

_MAX_ROWS: Final = 5_000
"""Most rows in one portion of news."""


@dataclass(slots=True)
class _LiveRows:
    """The rows of a batch as of the last look.

    Mutable state: `generation`, `columns`, `rows`, `shown`, `log`, the scores and the fields.

    Attributes:
        generation: number of the batch, counted up whenever the journal holds another.
        columns: columns of the page.
        rows: in input order, with the fingerprints of their prompts; `UNASKED` for a row without a prompt.
        shown: the rows that the page shows.
        log: positions of rows that changed on the page, or left it, in the order of their changes; its length is the
            version.
        listed: columns of the output.
        key: column with row ids; None if rows are numbered.
        prefix: prefix of the output columns.
        added: output columns after the usual ones.
        fields: the fields of the answers so far.
        shown_fields: those that have columns.
        scores: None without scorers.
        selection: the rows that the run asks; None for all.
    """

    generation: int = 0
    columns: RowColumns = field(default_factory=lambda: RowColumns(()))
    rows: LiveRows = field(default_factory=LiveRows)
    shown: ShownRows | None = None
    log: array[int] = field(default_factory=lambda: array("q"))
    listed: Sequence[str] = ()
    key: str | None = None
    prefix: str = ""
    added: AddedColumns = field(default_factory=lambda: AddedColumns({}))
    fields: FoundFields = field(default_factory=lambda: FoundFields((), ""))
    shown_fields: TableFields = field(default_factory=TableFields)
    scores: LiveScores | None = None
    selection: Selection | None = None

    def selected(self, position: int, cells: JsonDict) -> JsonDict:
        """Return a row's cells as the output has them: a row that the run leaves out is skipped."""
        return selected_cells(self.selection, Row(position, {}), cells)

    def find_columns(self) -> None:
        """Set the columns, with those of the fields that answers have so far."""
        scorers = self.scores.scorers if self.scores is not None else ()
        target = self.scores.target if self.scores is not None else None
        self.shown_fields = self.fields.columns()
        names = ColumnNames(f"{self.prefix}response", scorers, self.shown_fields)
        self.columns = columns_of(self.listed, self.prefix, names, self.key, target)

    def show(self, most: int) -> None:
        """Choose the rows that the page shows, after all of the journal has been read."""
        self.shown = ShownRows(bytearray(needs_attention(row) for row in self.rows), most)
        self.log = array("q", self.shown.positions())

    def note_change(self, position: int, row: ReportRow) -> None:
        """Note that a row has changed, if the page shows it or will show it now."""
        if self.shown is not None:
            self.log.extend(self.shown.change(position, is_urgent=needs_attention(row)))

    def table_row(self, position: int, row: ReportRow) -> Row:
        """Return a row as the output would have it."""
        return Row(position, {**row.values, **{self.prefix + name: cell for name, cell in row.cells.items()}})


@dataclass(frozen=True, slots=True)
class _TableRows:
    """The rows of a batch as its output would have them, in any number of passes."""

    live: _LiveRows

    def __iter__(self) -> Iterator[Row]:
        return (self.live.table_row(position, row) for position, row in enumerate(self.live.rows))


class FollowedBatch:
    """A batch that may be running; each look reads only the changes since the last one.

    Mutable state: the open journal, the rows as of the last look, and the facts computed from them.
    """

    def __init__(
        self, output: Path, clock: WallClock, spec: ScoringSpec | None = None, most_rows: int = MOST_ROWS
    ) -> None:
        """
        Args:
            output: the batch's output, or its journal.
            clock: the wall clock.
            spec: how to score the rows; None, or a spec without scorers, for no scores.
            most_rows: maximum number of rows on the page; figures cover all rows. Rows that failed come first.

        Raises:
            OutputError: there is no journal, or it cannot be read.
            InputError: the input is missing or cannot be scored.
        """
        if spec is not None:
            check_scoring(spec)
        self._spec = spec if spec is not None and spec.scorers else None
        self._output = output
        self._most_rows = most_rows
        self._clock = clock
        self._paths = paths_for(Path(str(output).removesuffix(".journal")))
        self._notes = NotedRows(self._paths.notes)
        self._live = _LiveRows()
        self._journal = FollowedJournal(self._paths.journal)
        self._file = self._file_identity()
        self._facts: tuple[tuple[int, int, bool], PageFacts] | None = None
        try:
            self.look()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the journal and the scorers."""
        self._journal.close()
        if self._live.scores is not None:
            self._live.scores.close()

    def look(self) -> None:
        """Read the changes since the last look.

        Raises:
            OutputError: the journal cannot be read.
            InputError: the input is missing.
        """
        take_in(self._paths)
        self._reopen_if_replaced()
        changes = self._journal.changes()
        while changes is not None:
            self._take(changes)
            changes = self._journal.changes() if changes.has_more else None
        if self._live.shown is None:
            self._live.find_columns()
            self._live.show(self._most_rows)
        self._notes.look(self._live.rows, (self._live.generation, len(self._live.log)))

    def _take(self, changes: Changes) -> None:
        if changes.is_new_batch:
            self._start()
        self._apply(changes)
        live = self._live
        if live.shown is None:
            return  # no page has seen this batch
        if not live.fields.columns().derived.keys() <= live.shown_fields.derived.keys():
            live.find_columns()
            live.generation += 1  # the page reads all rows again, with the new columns

    def note(self, generation: int, position: int, rating: Rating, comment: str) -> None:
        """Keep what a person noted about a row.

        Raises:
            InputError: the page shows another batch or a row that does not exist, or the file of notes cannot be read.
            OutputError: the file cannot be written.
        """
        if generation != self._live.generation or not 0 <= position < len(self._live.rows):
            raise InputError("the page shows the rows of an earlier batch: wait until it shows the current ones")
        self._notes.save(self._live.rows, position, rating, comment)
        self.look()

    def news(self, generation: int, after: int, notes: int = 0) -> News:
        """Return the changes after version `after` of a generation, and the notes if their version is not `notes`.

        A page that names another generation, or a version that does not exist, gets all rows. Rows come in portions,
        and the facts come with the last one.
        """
        live = self._live
        if generation != live.generation or not 0 <= after <= len(live.log):
            after = 0
        until = min(len(live.log), after + _MAX_ROWS)
        is_last = until == len(live.log)
        changed = dict.fromkeys(live.log[after:until])
        shown: ShownRows | Sequence[int] = live.shown if live.shown is not None else ()
        return {
            "generation": live.generation,
            "version": until,
            "more": not is_last,
            "columns": live.columns.facts(),
            "facts": self._current_facts() if is_last else None,
            "row_notes": self._notes.facts if is_last and notes != self._notes.facts["version"] else None,
            "left_out": len(live.rows) - len(shown),
            "gone": [position for position in changed if position not in shown],
            "rows": packed(
                [
                    {"i": position, **row_json(live.rows[position], live.columns)}
                    for position in changed
                    if position in shown
                ]
            ),
        }

    # -- the journal

    def _file_identity(self) -> tuple[int, int] | None:
        """Return device and inode of the journal; None if there is no file."""
        try:
            status = self._paths.journal.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _reopen_if_replaced(self) -> None:
        """Open the journal that `--fresh` has put in the place of the open one."""
        identity = self._file_identity()
        if identity is None or identity == self._file:
            return
        journal = FollowedJournal(self._paths.journal)
        self._journal.close()
        self._journal, self._file = journal, identity

    def _start(self) -> None:
        """Start with all rows of the input as pending."""
        manifest = manifest_of(self._journal)
        source, options = recorded_source(manifest, self._paths)
        prompter = prompter_of(manifest, source.columns)
        prefix = options.prefix
        added = recorded_columns(manifest, source.columns)
        live = _LiveRows(self._live.generation + 1, key=manifest.get("key"), prefix=prefix, added=added)
        empty = {prefix + name: None for name in added.types}
        live.selection = recorded_selection(manifest, source)
        live.listed = (*source.columns, *options.added_columns)
        live.fields = FoundFields(live.listed, prefix, added.field_columns)
        for position, (row_key, row, prompt) in enumerate(prompts_of(source, prompter)):
            text, messages = asked(prompt)
            cells = live.selected(position, pending_cells())
            key = str(position) if live.key is None else prompter.key_cell(row)
            values = {**row.values, **empty}
            fingerprint = UNASKED if isinstance(prompt, PromptError) else prompt.fingerprint
            live.rows.append(ReportRow(key, values, cells, text, messages=messages, batch_key=row_key), fingerprint)
        if self._spec is not None:
            live.scores = LiveScores(self._spec, source.name, live.listed, _TableRows(live))
            live.rows.clusters = cluster_numbers(live.scores.clusters())
        if self._live.scores is not None:
            self._live.scores.close()
        self._live = live

    def _apply(self, changes: Changes) -> None:
        """Update the rows, note the changed ones in the log, and score those whose cells changed."""
        live = self._live
        ended = {outcome.row_key: outcome for outcome in changes.outcomes}
        to_score = []
        # Without those that the input no longer has.
        for row_key, position in live.rows.keys.places(dict.fromkeys([*ended, *changes.attempts])).items():
            fingerprint, row = live.rows.fingerprint(position), live.rows[position]
            attempts = changes.attempts.get(row_key, ())
            outcome = ended.get(row_key)
            # An answer to another prompt than the row's current one is not its answer.
            if outcome is not None and outcome.fingerprint == fingerprint:
                cells = dict(outcome.cells)
            else:
                cells = _unfinished_cells([each for each in attempts if each.fingerprint == fingerprint])
            cells = live.selected(position, cells)
            values = row.values
            if live.added.types:
                added = live.added.cells(self._journal, row_key, fingerprint, cells)
                values = {**values, **{live.prefix + name: cell for name, cell in added.items()}}
            runs = changes.runs.get(row_key, ())
            fields = row.fields if cells == row.cells else live.fields.read(cells)
            updated = replace(row, values=values, cells=cells, attempts=tuple(attempts), runs=runs, fields=fields)
            if updated == row:
                continue
            live.rows.replace(position, updated, fingerprint)
            live.note_change(position, updated)
            if (updated.values, updated.cells) != (row.values, row.cells):
                to_score.append(position)
        self._score(to_score)

    def _score(self, positions: Sequence[int]) -> None:
        live = self._live
        if live.scores is None or not positions:
            return
        rows_scores = live.scores.update([live.table_row(position, live.rows[position]) for position in positions])
        for position, scores in zip(positions, rows_scores, strict=True):
            named = list(zip(live.scores.scorers, scores, strict=True))
            scored = replace(
                live.rows[position],
                scores={name: None if score is None else score.value for name, score in named},
                reads={name: None if score is None else score.read for name, score in named},
                compared=labels_of(live.scores.scorers, scores),
            )
            live.rows.replace(position, scored, live.rows.fingerprint(position))

    def _current_facts(self) -> PageFacts:
        """Return the facts of all rows; they are computed again only if a row or the lock has changed."""
        is_running = is_held(self._paths.lock)
        state = (self._live.generation, len(self._live.log), is_running)
        if self._facts is None or self._facts[0] != state:
            batch = batch_facts(self._journal.read_manifest(), self._paths, self._journal)
            batch["running"] = is_running
            live, scores = self._live, self._live.scores
            by = () if scores is None else scores.by
            of_rows, answers = figures_of(live.rows, live.columns, by, self._journal.cool_downs())
            facts = page_facts(head(str(self._output), self._clock), of_rows, answers, batch, ())
            if scores is not None:
                facts["scores"] = scores.facts()
                facts["without_target"] = scores.without_target()
            self._facts = (state, facts)
        return self._facts[1]


def _unfinished_cells(attempts: Sequence[RecordedAttempt]) -> JsonDict:
    """Return the cells of a row that has not ended, as `batchrun export` writes them."""
    cells = pending_cells()
    if attempts:
        last = attempts[-1]
        cells["status"] = "in_flight" if last.may_be_running else "pending"
        cells["thread_id"], cells["run_id"], cells["attempts"] = last.thread_id, last.run_id, last.number
    return cells
